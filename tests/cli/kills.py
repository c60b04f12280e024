#!/usr/bin/env python3
"""SIGKILL in the middle of every command that writes.

    tests/cli/kills.py --imgconv build/imgconv [--seed N] [--count N] [--at-random-times]

What a killed process leaves behind changes with its system calls only, so it is killed at one of them,
drawn at random from those that can change a file (strace injects the signal). --at-random-times kills
without strace, after a random part of the time that the command takes. Afterwards the old or the new is
whole: the genuine qemu-img finds at most leaks, the guest's bytes are the old or the new ones, and no
other file has changed or been left. --count is the number of kills for each command; the suite has few.
"""
import argparse
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

CALLS = "pwrite64,pwritev,write,fallocate,ftruncate,fsync,fdatasync,linkat,rename,unlink,io_uring_enter"
# Threads share the work anew in each run: none of them may come to the call that was drawn.
MORE_TRIES = 50
QEMU_IMG = os.environ.get("IMGCONV_QEMU_IMG10") or shutil.which("qemu-img")


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False)


def must(*words):
    result = run(*words)
    assert result.returncode == 0, (words, result)
    return result.stdout


def content(name, form="qcow2", length=None):
    """Digest of the disk or its beginning, by the genuine tool."""
    must(QEMU_IMG, "convert", "-f", form, "-O", "raw", name, "content.raw")
    if length is not None:
        assert os.path.getsize("content.raw") >= length
        os.truncate("content.raw", length)
    with open("content.raw", "rb") as file:
        value = hashlib.file_digest(file, "sha256").hexdigest()
    os.unlink("content.raw")
    return value


def assert_consistent(name):
    """Leaks at most, and copied bits that disagree with a leaked refcount (formats/README.md, F9)."""
    result = run(QEMU_IMG, "check", "-f", "qcow2", name)
    worse = [line for line in result.stderr.splitlines()
             if not line.startswith("Leaked") and "OFLAG_COPIED" not in line]
    assert result.returncode in (0, 2, 3) and not worse, (name, result.returncode, worse)


class Command:
    """What is killed: how the folder is prepared, the command, what must hold afterwards."""

    targets = ()  # Files that may change.
    # Linux gives a file the name of another in two steps: between them the whole new file is there
    # under a temporary name.
    may_leave_new_file = False
    program = None

    def prepare(self):
        """Called once, in the template folder."""

    def words(self):
        raise NotImplementedError

    def learn_new(self):
        """In a folder where the command has run to its end: what may be found afterwards."""
        self.new = self.state()

    def learn_old(self):
        self.old = self.state()

    def state(self):
        return None

    def judge(self):
        assert self.state() in (self.old, self.new), "neither the old nor the new"


def make_disk(name, seed, size=3 << 20, options=()):
    rnd = random.Random(seed)
    must(QEMU_IMG, "create", "-q", "-f", "qcow2", *options, name, str(size))
    commands = [word for n in range(12) for word in
                ("-c", f"write -P {1 + n} {rnd.randrange(size // 512 - 400) * 512} {rnd.randrange(1, 400) * 512}")]
    must(os.path.join(os.path.dirname(QEMU_IMG), "qemu-io"), "-f", "qcow2", *commands, name)


class ConvertNew(Command):
    name = "convert to a new target"
    targets = ("target",)

    def __init__(self, *words, form="qcow2"):
        self.form = form
        self.extra = words

    def prepare(self):
        make_disk("source", 1)

    def words(self):
        return ["convert", *self.extra, "-f", "qcow2", "-O", self.form, "source", "target"]

    def state(self):
        if not os.path.exists("target"):
            return None
        if self.form == "qcow2":
            assert_consistent("target")
        return content("target", self.form)


class ConvertInPlace(ConvertNew):
    name = "convert into an existing target"

    def prepare(self):
        super().prepare()
        with open("target", "wb") as file:
            file.write(b"old" * 1000)

    def state(self):
        """Either the whole image, or one whose disk has no size, also when somebody repairs it."""
        info = run(QEMU_IMG, "info", "-f", "qcow2", "target")
        if info.returncode != 0:
            return None
        if "virtual size: 0 B" in info.stdout:
            for program in (self.program, QEMU_IMG):
                shutil.copy("target", "half")
                must(program, "check", "-q", "-r", "all", "half")
                repaired = must(QEMU_IMG, "info", "half")
                assert "virtual size: 0 B" in repaired and "corrupt: true" not in repaired, repaired
            os.unlink("half")
            return None
        assert "corrupt: true" not in info.stdout
        assert_consistent("target")
        return content("target")


class DdNew(ConvertNew):
    name = "dd to a new output"

    def words(self):
        return ["dd", "-f", "qcow2", "-O", self.form, "if=source", "of=target"]


class DdInPlace(ConvertInPlace):
    name = "dd into an existing output"
    words = DdNew.words


class ConvertReplace(ConvertNew):
    name = "convert --replace"
    may_leave_new_file = True

    def __init__(self):
        super().__init__("--replace")

    def prepare(self):
        super().prepare()
        make_disk("target", 9)


class Commit(Command):
    name = "commit"
    targets = ("overlay", "base")

    def prepare(self):
        make_disk("base", 2)
        make_disk("overlay", 3, options=("-b", "base", "-F", "qcow2"))

    def words(self):
        return ["commit", "-q", "overlay"]

    def state(self):
        assert_consistent("base")
        assert_consistent("overlay")
        return content("overlay")


class Rebase(Commit):
    name = "rebase"
    targets = ("overlay",)

    def prepare(self):
        super().prepare()
        make_disk("other", 4)

    def words(self):
        return ["rebase", "-b", "other", "-F", "qcow2", "overlay"]


class Change(Command):
    """One image, changed as a whole."""

    targets = ("image",)

    def __init__(self, name, *words, snapshots=0):
        self.name = name
        self.command = words
        self.snapshots = snapshots

    def prepare(self):
        make_disk("image", 5)
        for number in range(self.snapshots):
            must(QEMU_IMG, "snapshot", "-c", f"s{number}", "image")
            must(os.path.join(os.path.dirname(QEMU_IMG), "qemu-io"), "-f", "qcow2", "-c",
                 f"write -P 77 {number * 100}k 300k", "image")

    def words(self):
        return list(self.command)

    def state(self):
        assert_consistent("image")
        return content("image")


class Shrink(Change):
    """What is behind the new end may be gone before the end is there."""

    def __init__(self):
        super().__init__("resize to less", "resize", "-q", "--shrink", "-f", "qcow2", "image", "1M")

    def state(self):
        assert_consistent("image")
        return content("image", length=1 << 20)


class Repair(Change):
    """Damage that costs no data: the guest's bytes are those of before, damaged or repaired."""

    def __init__(self):
        super().__init__("check -r all", "check", "-q", "-r", "all", "image", snapshots=1)

    def prepare(self):
        super().prepare()
        with open("image", "r+b") as file:
            file.seek(48)
            table = int.from_bytes(file.read(8), "big")
            file.seek(table)
            block = int.from_bytes(file.read(8), "big")
            file.seek(block + 2 * 5)
            file.write(b"\0\0\0\0\0\x07\0\x09")

    def state(self):
        return content("image")

    def judge(self):
        super().judge()
        repaired = run(QEMU_IMG, "check", "-q", "-r", "all", "-f", "qcow2", "image")
        assert repaired.returncode == 0, repaired
        assert self.state() == self.old


def commands():
    return [ConvertNew(), ConvertNew("-c", "-W", "-m", "16"), ConvertNew(form="raw"), ConvertInPlace(),
            ConvertInPlace("-o", "compat=0.10"), ConvertReplace(), DdNew(), DdInPlace(), Commit(), Rebase(),
            Change("resize to more", "resize", "-q", "-f", "qcow2", "image", "700M"),
            Shrink(),
            Change("snapshot -c", "snapshot", "-c", "new", "image", snapshots=1),
            Change("snapshot -a", "snapshot", "-a", "s0", "image", snapshots=2),
            Change("snapshot -d", "snapshot", "-d", "s0", "image", snapshots=2),
            Change("amend", "amend", "-q", "-f", "qcow2", "-o", "refcount_bits=32", "image"), Repair()]


def digest_of_others(names):
    found = {}
    for name in sorted(os.listdir(".")):
        if name not in names:
            with open(name, "rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def without_new_file(left, command):
    temporary = [name for name in left if name.startswith(".imgconv-")]
    assert len(temporary) <= 1, temporary
    for name in temporary:
        assert content(name) == command.new, "half a file was left"
    return {name: digest for name, digest in left.items() if name not in temporary}


def run_killed(program, words, rnd, moments):
    """Kills the command; false when it had ended before."""
    if isinstance(moments, float):
        process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=rnd.random() * moments)
        except subprocess.TimeoutExpired:
            process.kill()
        return process.wait() == -9
    call, number = rnd.choice(moments)
    result = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                 f"inject={call}:signal=KILL:when={number}", program, *words)
    return result.returncode in (-9, 137)


def moments_of(program, words, at_random_times):
    """The moments at which the command, which now runs to its end, could be killed."""
    if at_random_times:
        begin = time.monotonic()
        must(program, *words)
        return (time.monotonic() - begin) * 1.1
    must("strace", "-f", "-qq", "-o", "../trace", "-e", f"trace={CALLS}", program, *words)
    counts, moments = {}, []
    with open("../trace", encoding="utf-8", errors="replace") as trace:
        for line in trace:
            match = re.match(r"(\d+) +(\w+)\(", line)
            if match:
                counts[match.groups()] = counts.get(match.groups(), 0) + 1
                moments.append((match.group(2), counts[match.groups()]))
    assert moments, words
    return moments


def fresh_folder():
    os.chdir("..")
    shutil.rmtree("work", ignore_errors=True)
    shutil.copytree("template", "work")
    os.chdir("work")


def try_command(program, command, arguments, rnd):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        command.program = program
        os.mkdir(os.path.join(folder, "template"))
        os.chdir(os.path.join(folder, "template"))
        command.prepare()
        fresh_folder()
        command.learn_old()
        moments = moments_of(program, command.words(), arguments.at_random_times)
        command.learn_new()
        assert command.new is not None
        killed = tries = 0
        while tries < arguments.count or (killed == 0 and tries < arguments.count + MORE_TRIES):
            tries += 1
            fresh_folder()
            others = digest_of_others(command.targets)
            killed += run_killed(program, command.words(), rnd, moments)
            left = digest_of_others(command.targets)
            if command.may_leave_new_file:
                left = without_new_file(left, command)
            assert left == others, "another file changed or was left"
            command.judge()
        os.chdir("/")
    assert killed > 0, f"not killed once in {tries} tries"
    return killed


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("IMGCONV_SEED", "1")))
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--at-random-times", action="store_true")
    parser.add_argument("--only")
    arguments = parser.parse_args()
    # LeakSanitizer cannot work in a process that strace traces.
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    program = os.path.abspath(arguments.imgconv)
    tracing = shutil.which("strace") and run("strace", "-o", "/dev/null", "true").returncode == 0
    if not QEMU_IMG or not (tracing or arguments.at_random_times):
        print("needs qemu-img and a strace that can trace")
        return 77
    rnd, killed = random.Random(arguments.seed), 0
    for command in commands():
        if arguments.only and arguments.only not in command.name:
            continue
        try:
            count = try_command(program, command, arguments, rnd)
        except AssertionError as problem:
            print(f"{command.name} ({' '.join(command.words())}): {problem}")
            return 1
        killed += count
        if arguments.count > 10:
            print(f"{command.name}: killed {count} times", flush=True)
    print(f"killed {killed} times: the old or the new is whole")
    return 0


if __name__ == "__main__":
    sys.exit(main())
