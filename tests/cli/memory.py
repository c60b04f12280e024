#!/usr/bin/env python3
"""No memory: one clear line, exit status 1, and no target that passes for more than it is.

    tests/cli/memory.py --imgconv build/imgconv [--shim build/tests/cli/libfailing_malloc.so]
                        [--every-allocation]

The allocations of each command fail from the first, the second, ... on (every one, or some of them),
until it has enough; then with limits of address space (ulimit -v). A command that got what it needed
ends with 0 and the right bytes; any other says why, once. Exit status 77: a build with a sanitizer,
which has an allocator of its own, or no qemu-img.
"""
import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile

SECONDS = 120
FINE = (0, 1)


def run(words, **options):
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=SECONDS,
                          **options)


def content(name, form):
    run(["qemu-img", "convert", "-f", form, "-O", "raw", name, "content"])
    with open("content", "rb") as file:
        data = file.read()
    os.unlink("content")
    return data


class Command:
    """What is run: on which files, and what must hold whether it had memory or not."""

    def __init__(self, *words, old=None, form="qcow2", faults=None, refused=None):
        self.words = words
        self.old = old  # A target that exists.
        self.form = form
        self.faults = faults
        self.refused = refused  # What it says in the end, when it has enough memory.

    def begin(self):
        for name in os.listdir("template"):
            shutil.copy(os.path.join("template", name), name)
        if self.old is not None:
            with open("target", "wb") as file:
                file.write(self.old)

    def judge(self, status):
        """Afterwards, in the folder."""
        left = set(os.listdir(".")) - set(os.listdir("template")) - {"template"}
        assert left <= {"target"}, left
        if status == 0:
            if any(word.endswith("target") for word in self.words):
                assert content("target", self.form) == content("source", "raw"), "wrong bytes"
        elif self.old is None:
            assert not left, left
            assert content("source", "raw") == content("template/source", "raw"), "harmed its source"
        elif self.form == "raw":
            assert os.path.getsize("target") == 0 or file_is(self.old), "half a raw image is left"
        else:
            said = run(["qemu-img", "info", "-f", "qcow2", "target"])
            # The last steps come when all is on the disk and the header says so.
            assert said.returncode != 0 or "corrupt: true" in said.stdout \
                or content("target", "qcow2") == content("source", "raw"), said
        for name in ("base", "top"):
            said = run(["qemu-img", "check", "-f", "qcow2", name])
            worse = [line for line in said.stderr.splitlines()
                     if not line.startswith("Leaked") and "OFLAG_COPIED" not in line]
            assert said.returncode in (0, 2, 3) and not worse, (name, said)
        for name in left:
            os.unlink(name)


def file_is(data):
    with open("target", "rb") as file:
        return file.read() == data


CONVERT = ("convert", "-f", "raw", "source", "-O")
COMMANDS = (
    Command(*CONVERT, "qcow2", "target"),
    Command(*CONVERT, "qcow2", "-c", "-o", "compression_type=zstd", "target"),
    Command(*CONVERT, "raw", "target", form="raw", faults="tmpfile"),
    Command(*CONVERT, "raw", "target", form="raw", old=b"old"),
    Command(*CONVERT, "qcow2", "target", old=b"old"),
    Command(*CONVERT, "raw", "--verify", "--digest", "sha256", "target", form="raw"),
    Command(*CONVERT, "raw", "source", refused='Failed to get "write" lock'),
    Command("convert", "-f", "qcow2", "packed", "-O", "raw", "target", form="raw"),
    Command("dd", "-f", "raw", "-O", "qcow2", "if=source", "of=target"),
    Command("dd", "-f", "raw", "if=source", "of=target", form="raw", old=b"old"),
    Command("dd", "-f", "raw", "-O", "qcow2", "if=source", "of=target", old=b"old"),
    Command("commit", "-q", "top"), Command("rebase", "-q", "-b", "", "top"),
    Command("snapshot", "-c", "new", "base"), Command("resize", "-q", "base", "90M"),
    Command("check", "-q", "-r", "all", "base"), Command("info", "--output=json", "top"),
    Command("compare", "-q", "-f", "raw", "-F", "qcow2", "source", "packed"),
)


def prepare():
    os.mkdir("template")
    os.chdir("template")
    with open("source", "wb") as file:
        file.write(random.Random(1).randbytes(3 << 20) + bytes(1 << 20))
    for words in (["convert", "-c", "-O", "qcow2", "-f", "raw", "source", "packed"],
                  ["convert", "-O", "qcow2", "-f", "raw", "source", "base"],
                  ["snapshot", "-c", "old", "base"],
                  ["create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top"]):
        assert run(["qemu-img", *words]).returncode == 0, words
    run(["qemu-io", "-f", "qcow2", "-c", "write -P 2 1M 512k", "top"])
    os.chdir("..")


def one(command, program, what, **options):
    command.begin()
    result = run([program, *command.words], **options)
    lines = result.stderr.splitlines()
    text = (what, *command.words, result)
    has_enough = result.returncode == 0
    if command.refused and command.refused in result.stderr:
        has_enough, lines = True, lines[:1]
    assert result.returncode in FINE, text
    if result.returncode != 0:
        # What the run found out before may be said as well.
        assert len(lines) == 1 and lines[0].startswith("imgconv: "), text
    try:
        command.judge(result.returncode)
    except AssertionError as problem:
        raise AssertionError(text) from problem
    return has_enough


def with_failing_allocations(command, program, shims, every):
    """Returns how often there was no memory."""
    allocations, refusals = 1, 0
    while True:
        environment = dict(os.environ, LD_PRELOAD=":".join(shims), IMGCONV_ALLOCATIONS=str(allocations),
                           IMGCONV_FAULTS=command.faults or "none")
        if one(command, program, f"allocation {allocations}", env=environment):
            return refusals
        refusals += 1
        allocations += 1 if every else max(1, allocations // 3)


def with_limits(command, program):
    """From too little for the loader to enough."""
    refusals = 0
    for mebibytes in (16, 24, 32, 48, 80, 128, 400):
        def limit(size=mebibytes << 20):
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
        probe = run([program, "--version"], preexec_fn=limit)
        if probe.returncode == 0:
            refusals += not one(command, program, f"{mebibytes} MiB", preexec_fn=limit)
    return refusals


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--shim", action="append", default=[])
    parser.add_argument("--every-allocation", action="store_true")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.imgconv)
    shims = [os.path.abspath(shim) for shim in arguments.shim]
    with open(program, "rb") as file:
        if b"__asan_init" in (data := file.read()) or b"__tsan_init" in data:
            print("a sanitizer has an allocator of its own: skipped")
            return 77
    if not shutil.which("qemu-img"):
        print("needs qemu-img")
        return 77
    refusals = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare()
        for command in COMMANDS:
            if shims:
                # What is refused has few allocations, of which some are just before the refusal.
                every = arguments.every_allocation or command.refused
                count = with_failing_allocations(command, program, shims, every)
                assert count > 0, command.words
                refusals += count
            refusals += with_limits(command, program)
        os.chdir("/")
    print(f"memory: as promised; {refusals} times there was none")
    return 0


if __name__ == "__main__":
    sys.exit(main())
