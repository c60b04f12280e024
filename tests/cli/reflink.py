#!/usr/bin/env python3
"""A raw target shares the space of its source where the file system can (engine/README.md, E15).

    tests/cli/reflink.py --imgconv build/imgconv [--folder DIRECTORY-ON-XFS-OR-BTRFS]

Watches the system calls: cloning is tried by default, and not at all with -S, --salvage or creation
options; what lies together is shared by few calls, and copied when they stop working. Where there
is a file system that can (--folder, or XFS in a file when root may mount one), the target must have
the source's bytes, its own data be hardly allocated, and its holes be the same in whatever way it was
copied. Exit status 77: no strace.
"""
import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile

from determinism import identity

MIB = 1 << 20
SIZE = 64 * MIB
NOISE, ZEROS = 40 * MIB, 4 * MIB


def fail(text):
    print(text)
    sys.exit(1)


@contextlib.contextmanager
def mounted_xfs(folder):
    """A folder on XFS with reflinks, or None."""
    image, point = os.path.join(folder, "xfs"), os.path.join(folder, "mnt")
    os.mkdir(point)
    with open(image, "wb") as file:
        file.truncate(512 * MIB)
    steps = [["mkfs.xfs", "-q", "-m", "reflink=1", image], ["mount", "-o", "loop", image, point]]
    if os.geteuid() != 0 or not shutil.which("mkfs.xfs") or any(
            subprocess.run(step, capture_output=True, check=False).returncode for step in steps):
        yield None
        return
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


class Folder:
    """The test's images in one folder."""

    def __init__(self, imgconv, folder):
        self.imgconv = imgconv
        self.raw = os.path.join(folder, "disk.raw")
        self.qcow2 = os.path.join(folder, "disk.qcow2")
        self.target = os.path.join(folder, "target")
        with open(self.raw, "wb") as disk:
            disk.truncate(SIZE)
            # Noise, then zeros that are allocated: what a scan would make a hole of.
            disk.write(random.Random(1).randbytes(NOISE) + bytes(ZEROS))
        self.convert("-S", "0", "-O", "qcow2", self.raw, self.qcow2)
        # Cloning waits for what is not on the disk yet.
        os.sync()

    def convert(self, *arguments):
        subprocess.run([self.imgconv, "convert", *arguments], check=True)

    def clones(self, *options):
        """(calls, of these successful) of FICLONERANGE when the qcow2 image is converted to raw."""
        lines = []
        with tempfile.TemporaryDirectory() as traces:
            # A file a thread: in a common one a call that waits is cut in two lines.
            subprocess.run(["strace", "-ff", "-o", os.path.join(traces, "trace"), "-e", "trace=ioctl",
                            self.imgconv, "convert", *options, "-O", "raw", self.qcow2, self.target],
                           check=True)
            for name in os.listdir(traces):
                with open(os.path.join(traces, name), encoding="utf-8", errors="replace") as trace:
                    lines += [line for line in trace if "FICLONERANGE" in line]
        if not filecmp(self.raw, self.target):
            fail(f"convert {options}: the bytes differ")
        return len(lines), sum("= 0" in line for line in lines)

    def remove(self):
        for path in (self.raw, self.qcow2, self.target):
            if os.path.exists(path):
                os.unlink(path)


def filecmp(a, b):
    with open(a, "rb") as first, open(b, "rb") as second:
        return first.read() == second.read()


def check_options(folder):
    if folder.clones()[0] == 0:
        fail("cloning was not tried")
    for options in (["-S", "4k"], ["-S", "0"], ["--salvage"],
                    ["-o", "preallocation=falloc"]):
        if folder.clones(*options)[0] != 0:
            fail(f"cloning was tried with {options}")


def check_long_runs(folder):
    """Calls that the kernel refuses, at once or when runs are long already: what they were to copy,
    buffers copy."""
    for when in ("1+", "2+", "3+"):
        with tempfile.TemporaryDirectory() as traces:
            name = os.path.join(traces, "trace")
            # Where space can be shared nothing would be left to copy.
            subprocess.run(["strace", "-f", "-o", name, "-e", "trace=copy_file_range,ioctl",
                            "-e", "inject=ioctl:error=EOPNOTSUPP",
                            "-e", f"inject=copy_file_range:error=EXDEV:when={when}",
                            folder.imgconv, "convert", "-C", "-O", "raw", folder.qcow2,
                            folder.target], check=True)
            with open(name, encoding="utf-8", errors="replace") as trace:
                if "EXDEV" not in trace.read():
                    fail(f"copy_file_range {when}: not called as often")
        if not filecmp(folder.raw, folder.target):
            fail(f"copy_file_range that fails {when}: the bytes differ")


def check_holes(folder):
    """The backend, the rate and a second look at the bytes decide nothing."""
    for source in (folder.qcow2, folder.raw):
        wanted = None
        for way in ([], ["-m", "1", "--threads", "1"], ["--aio", "io_uring"], ["-r", "1G", "-W"],
                    ["--digest", "sha256"], ["--verify"], ["-t", "none"], ["-T", "none"]):
            with open(os.devnull, "wb") as nowhere:
                subprocess.run([folder.imgconv, "convert", *way, "-O", "raw", source, folder.target],
                               check=True, stdout=nowhere)
            wanted = wanted or identity(folder.target)
            if identity(folder.target) != wanted:
                fail(f"{source} {way}: other bytes or holes")
            os.unlink(folder.target)


def check_hint(folder):
    """What the genuine tool asked XFS for is shown."""
    qemu_img = os.environ.get("IMGCONV_QEMU_IMG10")
    if not qemu_img:
        return
    subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", folder.target, "1M"], check=True)
    said, genuine = (subprocess.run([tool, "info", "--output=json", folder.target], check=True,
                                    capture_output=True, text=True).stdout
                     for tool in (folder.imgconv, qemu_img))
    if said != genuine:
        fail(f"info differs:\n{genuine}\n{said}")
    os.unlink(folder.target)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--folder")
    arguments = parser.parse_args()
    # LeakSanitizer cannot work in a process that strace traces.
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    if not shutil.which("strace"):
        print("no strace: skipped")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as scratch:
        traced = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
        if traced.returncode != 0:
            print("strace may not trace here: skipped")
            sys.exit(77)
        plain = Folder(arguments.imgconv, scratch)
        check_options(plain)
        check_long_runs(plain)
        print("options: as promised")
        with contextlib.ExitStack() as stack:
            where = arguments.folder or stack.enter_context(mounted_xfs(scratch))
            if where is None:
                print("no file system that shares space: the rest was left out")
                return
            able = Folder(arguments.imgconv, where)
            calls, successful = able.clones()
            # The workers begin with 2 MiB each, until a call tells that it works.
            if not 1 <= successful <= calls <= 8 + 4 < (NOISE + ZEROS) // (2 * MIB):
                fail(f"{successful} of {calls} calls cloned")
            check_options(able)
            check_holes(able)
            check_hint(able)
            able.remove()
            print(f"cloned by {successful} calls")


if __name__ == "__main__":
    main()
