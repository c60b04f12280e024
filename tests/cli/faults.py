#!/usr/bin/env python3
"""Faults from outside: the kernel refuses, fails, does less than asked, or the disk is full.

    tests/cli/faults.py --imgconv build/imgconv [--shim build/tests/cli/libfaulty_io.so]

Errors of system calls are injected by strace. Whatever fails: exit status 1, words on stderr, no hang,
and of a new target nothing is left. Whatever is only inconvenient: exit status 0 and the right bytes.
A case whose means are not there (strace, root for a small tmpfs) is left out, and said so.
"""
import argparse
import contextlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

SECONDS = 120
KINDS = {"raw": [], "qcow2": [], "packed": ["-c"]}


def run(words, **options):
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=SECONDS,
                          **options)


def can_trace():
    return bool(shutil.which("strace")) and run(["strace", "-o", "/dev/null", "true"]).returncode == 0


class Case:
    """One convert under a fault, in a folder of its own that has nothing but the source."""

    def __init__(self, program, kind="raw", words=(), prefix=(), **options):
        self.command = [*prefix, program, "convert", *KINDS[kind], *words, "-f", "raw", "-O",
                        "raw" if kind == "raw" else "qcow2", "source", "target"]
        self.options = options

    def run(self):
        return run(self.command, **self.options)

    def fails(self, *texts):
        result = self.run()
        assert result.returncode == 1, (self.command, result)
        assert result.stderr and any(re.search(text, result.stderr) for text in texts), \
            (self.command, result)
        assert os.listdir(".") == ["source"], (self.command, os.listdir("."))

    def works(self):
        result = self.run()
        assert result.returncode == 0, (self.command, result)
        form = self.command[self.command.index("-O") + 1]
        same = run(["qemu-img", "compare", "-f", "raw", "-F", form, "source", "target"])
        assert same.returncode == 0, (self.command, same)
        os.unlink("target")
        assert os.listdir(".") == ["source"], (self.command, os.listdir("."))

    def works_or_fails(self):
        result = self.run()
        assert result.returncode in (0, 1) and (result.returncode == 0 or result.stderr), \
            (self.command, result)
        if result.returncode == 0:
            os.unlink("target")
        assert os.listdir(".") == ["source"], (self.command, os.listdir("."))


def strace(calls, error, when=None, path=None):
    inject = f"inject={calls}:{error}" + (f":when={when}" if when else "")
    return ["strace", "-f", "-qq", "-o", "/dev/null", *(["-P", path] if path else []), "-e",
            f"trace={calls}", "-e", inject]


def system_calls_that_fail(program):
    """What cannot be worked around ends the convert."""
    threads = ["--aio", "threads"]
    for kind in KINDS:
        for error, text in (("EIO", "Input/output error"), ("ENOSPC", "No space left on device")):
            Case(program, kind, threads, strace("pwrite64", f"error={error}", 2)).fails(text)
        Case(program, kind, [*threads, "--threads", "1"],
             strace("pread64", "error=EIO", "2+", "source")).fails("Input/output error")
        Case(program, kind, threads, strace("fsync,fdatasync", "error=EIO")).fails("Input/output error")
        Case(program, kind, threads, strace("linkat", "error=EIO")).fails("Input/output error")
    Case(program, "raw", threads, strace("ftruncate", "error=EFBIG")).fails("too large")
    Case(program, "qcow2", threads, strace("fcntl", "error=ENOLCK")).works_or_fails()
    Case(program, "qcow2", threads, strace("pread64", "error=EAGAIN", 2, "source")).works_or_fails()


def dd_that_fails(program):
    """As convert: nothing is left of a new output."""
    for form in ("raw", "qcow2"):
        command = [*strace("pwrite64", "error=ENOSPC", 2), program, "dd", "-f", "raw", "-O", form,
                   "if=source", "of=target"]
        result = run(command)
        assert result.returncode == 1 and "No space left" in result.stderr, (command, result)
        assert os.listdir(".") == ["source"], (command, os.listdir("."))


def synced(program, form, words):
    """What the kernel was asked to bring to the disk."""
    run(["strace", "-f", "-qq", "-y", "-o", "trace", "-e", "trace=fsync,fdatasync,syncfs", program,
         "convert", *words, "-f", "raw", "-O", form, "source", "target"])
    with open("trace", encoding="utf-8") as file:
        names = re.findall(r"sync\w*\(\d+<([^>]*)>", file.read())
    os.unlink("trace")
    os.unlink("target")
    return names


def durable(program):
    """The file and its directory are on the disk before the program ends, unless it was told not to."""
    for form in ("raw", "qcow2"):
        names = synced(program, form, [])
        assert os.getcwd() in names and len(names) > 1, names
        for words in (["--no-sync"], ["-t", "unsafe"]):
            assert not synced(program, form, words), (form, words)


CHANGES = (["resize", "base", "8M"], ["resize", "--shrink", "base", "3M"], ["snapshot", "-c", "new", "base"],
           ["snapshot", "-a", "old", "base"], ["snapshot", "-d", "old", "base"],
           ["bitmap", "--add", "base", "b"], ["commit", "top"], ["rebase", "-b", "", "top"],
           ["amend", "-f", "qcow2", "-o", "compat=0.10", "top"])


def changes_that_fail(program):
    """When a write or a sync fails, an image that is changed in place has leaks at most, as the genuine
    tool sees it; copied bits may disagree with a leaked refcount (formats/README.md, F9)."""
    def check(words):
        for name in ("base", "top"):
            result = run(["qemu-img", "check", "-f", "qcow2", name])
            worse = [line for line in result.stderr.splitlines()
                     if not line.startswith("Leaked") and "OFLAG_COPIED" not in line]
            assert result.returncode in (0, 2, 3) and not worse, (words, name, result)

    # strace counts calls by thread: on one core one thread makes most of them.
    one_thread = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    os.mkdir("template")
    os.chdir("template")
    run(["qemu-img", "create", "-q", "-f", "qcow2", "base", "4M"])
    run(["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 2M", "base"])
    run(["qemu-img", "snapshot", "-c", "old", "base"])
    run(["qemu-io", "-f", "qcow2", "-c", "write -P 3 1M 1M", "base"])
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top"])
    run(["qemu-io", "-f", "qcow2", "-c", "write -P 2 1M 512k", "top"])
    os.chdir("..")
    for words in CHANGES:
        for call, moments in (("fdatasync", range(1, 13)), ("pwrite64", (1, 2, 3, 5, 8))):
            for number in moments:
                shutil.rmtree("work", ignore_errors=True)
                shutil.copytree("template", "work")
                os.chdir("work")
                run([*one_thread, *strace(call, "error=EIO", number), program, *words])
                check([call, number, *words])
                os.chdir("..")
    shutil.rmtree("template")
    shutil.rmtree("work")


def system_calls_that_are_missing(program):
    """What a file system or a container refuses is done in another way."""
    for kind in KINDS:
        Case(program, kind, [], strace("io_uring_setup", "error=EPERM")).works()
        Case(program, kind, [], strace("fallocate", "error=EOPNOTSUPP")).works()
        Case(program, kind, [], strace("lseek", "error=EINVAL")).works()
        for call, path in (("pread64", "source"), ("pwrite64", None)):
            Case(program, kind, ["--aio", "threads"], strace(call, "error=EINTR", "1+3", path)).works()
        for call in ("fsync", "ftruncate", "fallocate", "linkat"):
            Case(program, kind, [], strace(call, "error=EINTR", 1)).works()
        # No file without a name: a temporary one, of which nothing is left either.
        unnamed = strace("openat", "error=EOPNOTSUPP", 2, ".")
        Case(program, kind, [], unnamed).works()
    Case(program, "raw", [], strace("copy_file_range,ioctl,fadvise64,fallocate", "error=EINVAL")).works()
    Case(program, "raw", [], strace("close", "error=EIO", None, "source")).works()
    Case(program, "qcow2", ["--verify"], strace("fadvise64", "error=ESPIPE")).works_or_fails()


def uring_refused_while_running(program):
    """For now, or for good: then the pool does the rest. The first call is the question whether the
    ring serves at all."""
    ring = ["--aio", "io_uring"]
    said = Case(program, "raw", [*ring, "-v"]).run().stderr
    os.unlink("target")
    if "I/O backend: io_uring" not in said:
        return "no io_uring here"
    for kind in KINDS:
        for error in ("EINTR", "EAGAIN", "EBUSY"):
            Case(program, kind, ring, strace("io_uring_enter", f"error={error}", "2+3")).works()
        for first in (2, 3, 5):
            Case(program, kind, ring, strace("io_uring_enter", "error=EPERM", f"{first}+")).works()
    return None


def limit_on_file_sizes(program):
    """Writes are cut short at the limit; the signal that comes with it would kill, where the thread
    writes that takes signals: by the ring, past the page cache."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, 1000000))
    for kind in KINDS:
        for words in ([], ["--aio", "io_uring"], ["--aio", "io_uring", "-t", "none"]):
            Case(program, kind, words, preexec_fn=limit).fails("too large")


def short_reads_and_writes(program, shim):
    for kind in KINDS:
        for words in (["-m", "1"], ["-m", "16", "--verify", "--digest", "file:sha256"]):
            Case(program, kind, ["--aio", "threads", *words],
                 env=dict(os.environ, LD_PRELOAD=shim)).works()


def close_fails_in_place(program, kind, words, shim):
    """What is left of a target that was there does not pass for a copy."""
    with open("target", "wb") as file:
        file.write(b"old")
    case = Case(program, kind, words, env=dict(os.environ, LD_PRELOAD=shim, IMGCONV_FAULTS="close"))
    result = case.run()
    assert result.returncode == 1 and "Could not close 'target': Input/output error" in result.stderr, \
        (case.command, result)
    if kind == "raw":
        assert os.path.getsize("target") == 0, case.command
    else:
        assert "virtual size: 0 B" in run(["qemu-img", "info", "target"]).stdout, case.command
    os.unlink("target")


def refusing_file_systems(program, shim):
    """Of each kind for which strace has no means: a flag, a command of fcntl."""
    for kind in KINDS:
        for fault in ("fallocate", "seek", "tmpfile", "locks", "clone"):
            Case(program, kind, [], env=dict(os.environ, LD_PRELOAD=shim, IMGCONV_FAULTS=fault)).works()
        for words in ([], ["--no-sync"]):
            Case(program, kind, words, env=dict(os.environ, LD_PRELOAD=shim, IMGCONV_FAULTS="close")
                 ).fails("Could not close 'target': Input/output error")
            close_fails_in_place(program, kind, words, shim)
    direct = dict(os.environ, LD_PRELOAD=shim, IMGCONV_FAULTS="direct")
    for words in (["-t", "none"], ["-T", "none"]):
        Case(program, "raw", words, env=direct).fails("does not support O_DIRECT")
    # Without locks, nothing else keeps an image from being overwritten by itself.
    with open("source", "rb") as file:
        before = file.read()
    for form in ("raw", "qcow2"):
        result = run([program, "convert", "-f", "raw", "-O", form, "source", "source"],
                     env=dict(os.environ, LD_PRELOAD=shim, IMGCONV_FAULTS="locks"))
        assert result.returncode == 1 and 'Failed to get "write" lock' in result.stderr, result
        with open("source", "rb") as file:
            assert file.read() == before, "the source was overwritten"


@contextlib.contextmanager
def small_disk():
    """A file system of 1.5 MB, where mounting one is allowed."""
    os.mkdir("disk")
    mounted = run(["mount", "-t", "tmpfs", "-o", "size=1500k", "imgconv-test", "disk"])
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            run(["umount", "-l", "disk"])
        os.rmdir("disk")


def full_disk(program):
    with small_disk() as is_mounted:
        if not is_mounted:
            return "no small disk could be mounted"
        for form, words in (("raw", []), ("qcow2", []), ("qcow2", ["-c"]), ("raw", ["-S", "0"]),
                            ("qcow2", ["-o", "preallocation=falloc"])):
            command = [program, "convert", *words, "-f", "raw", "-O", form, "source", "disk/target"]
            result = run(command)
            assert result.returncode == 1 and "No space left" in result.stderr, (command, result)
            assert os.listdir("disk") == [], os.listdir("disk")
        for form, words in (("raw", []), ("raw", ["-o", "preallocation=full"]),
                            ("raw", ["-o", "preallocation=falloc"]), ("qcow2", [])):
            with open("disk/target", "wb") as file:
                file.write(b"old")
            result = run([program, "convert", *words, "-f", "raw", "-O", form, "source",
                          "disk/target"])
            assert result.returncode == 1, result
            if form == "raw":
                assert os.path.getsize("disk/target") == 0
            else:
                said = run(["qemu-img", "check", "-f", "qcow2", "disk/target"])
                assert said.returncode != 0 or "corrupt: true" in run(
                    ["qemu-img", "info", "disk/target"]).stdout, said
            os.unlink("disk/target")
        # Replacing needs room for both; the old one stays.
        with open("disk/target", "wb") as file:
            file.write(b"old")
        result = run([program, "convert", "--replace", "-f", "raw", "source", "disk/target"])
        assert result.returncode == 1 and os.listdir("disk") == ["target"], result
        with open("disk/target", "rb") as file:
            assert file.read() == b"old"
    return None


def unreadable_directory(program):
    """One to write to and not to read: nothing is left there either. Root may read it, unless told."""
    prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    os.mkdir("closed", mode=0o300)
    try:
        if os.geteuid() != 0:
            prefix = []
        elif run([*prefix, "ls", "closed"]).returncode == 0 or run([*prefix, "true"]).returncode != 0:
            return "nobody can be kept from reading a directory here"
        command = [*prefix, program, "convert", "-f", "raw", "-O", "qcow2", "source", "closed/target"]
        result = run(command)
        assert result.returncode == 0, (command, result)
        assert run(["qemu-img", "compare", "source", "closed/target"]).returncode == 0
        os.unlink("closed/target")
        command[-2] = "cut.qcow2"
        command[command.index("-f") + 1] = "qcow2"
        run([program, "convert", "-f", "raw", "-O", "qcow2", "source", "cut.qcow2"])
        os.truncate("cut.qcow2", 1 << 20)
        result = run(command)
        assert result.returncode == 1 and "truncated" in result.stderr, (command, result)
        os.chmod("closed", 0o700)
        assert os.listdir("closed") == [], os.listdir("closed")
    finally:
        shutil.rmtree("closed", ignore_errors=True)
        os.unlink("cut.qcow2")
    return None


def shrinking_source(program):
    """Cut off when some of it was read."""
    with open("shrinks", "wb") as file:
        file.write(random.Random(5).randbytes(12 << 20))
    for form in ("raw", "qcow2"):
        process = subprocess.Popen([program, "convert", "-p", "-r", "6M", "-f", "raw", "-O", form,
                                    "shrinks", "target"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        shown = b""
        while not re.search(rb"\([1-9]", shown):
            shown += os.read(process.stdout.fileno(), 100)
        os.truncate("shrinks", 4096)
        _, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 1 and b"error while reading" in errors, (process, errors)
        assert not os.path.exists("target")
        os.truncate("shrinks", 12 << 20)
        with open("shrinks", "wb") as file:
            file.write(random.Random(5).randbytes(12 << 20))
    os.unlink("shrinks")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--shim")
    arguments = parser.parse_args()
    # LeakSanitizer cannot work in a process that strace traces.
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0:verify_asan_link_order=0"
    program = os.path.abspath(arguments.imgconv)
    cases = [limit_on_file_sizes, full_disk, unreadable_directory, shrinking_source]
    notes = []
    if can_trace():
        cases += [durable, changes_that_fail, dd_that_fails, system_calls_that_fail,
                  system_calls_that_are_missing, uring_refused_while_running]
    else:
        notes.append("strace cannot trace here")
    if arguments.shim:
        shim = os.path.abspath(arguments.shim)
        cases += [lambda which: short_reads_and_writes(which, shim),
                  lambda which: refusing_file_systems(which, shim)]
    else:
        notes.append("no --shim: no short transfers, no refusing file systems")
    # Not in memory: a file system that takes O_DIRECT and files without a name.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chdir(folder)
        with open("source", "wb") as file:
            file.write(random.Random(1).randbytes(2 << 20) + bytes(1 << 20)
                       + random.Random(2).randbytes(1 << 20))
        failures = []
        for case in cases:
            try:
                notes.append(case(program))
            except AssertionError as failure:
                failures.append(failure)
                os.chdir(folder)
                for left in set(os.listdir(".")) - {"source"}:
                    run(["rm", "-rf", left])
        os.chdir("/")
    print(*failures, sep="\n")
    print("faults: as promised" if not failures else "faults", *filter(None, notes), sep="; ")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
