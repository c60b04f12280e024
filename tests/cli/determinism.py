#!/usr/bin/env python3
"""The same input and options give the same bytes, whatever the number of workers, the backend and the
timing.

    tests/cli/determinism.py --imgconv build/imgconv [--seed N] [--rounds N]

Each conversion runs in many ways that must not matter, at least one of them on one processor, and
between processes that keep the processors busy. The files are the same byte for byte, and so is where
their holes are. The suite runs one round.
"""
import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile

WAYS = [["-m", "1", "--threads", "1", "--aio", "threads"], ["-m", "1", "-W"], ["-m", "2", "-W"],
        ["-m", "5", "--threads", "2"], ["-m", "8", "-W", "--threads", "7"],
        ["-m", "16", "-W", "--aio", "threads"], ["-m", "16", "--aio", "io_uring"], ["-m", "16", "-W"],
        ["-t", "none", "-W"], ["-t", "none", "--aio", "io_uring"], ["-T", "none", "-W"],
        ["--verify", "--digest", "sha256"], ["-r", "400M", "-m", "16", "-W"]]
TARGETS = [["-O", "raw"], ["-O", "raw", "-S", "0"], ["-O", "raw", "-S", "64k"], ["-O", "qcow2"],
           ["-O", "qcow2", "-c"], ["-O", "qcow2", "-c", "-o", "compression_type=zstd"],
           ["-O", "qcow2", "-o", "cluster_size=512"], ["-O", "qcow2", "-o", "extended_l2=on"],
           ["-O", "qcow2", "-o", "cluster_size=2M,refcount_bits=64"],
           ["-O", "qcow2", "-o", "compat=0.10"], ["-O", "qcow2", "-o", "preallocation=metadata"],
           ["-O", "qcow2", "-c", "-o", "cluster_size=4k"], ["-O", "qcow2", "-S", "0"],
           ["-O", "qcow2", "-B", "base.raw", "-F", "raw"],
           ["-O", "qcow2", "-c", "-B", "base.raw", "-F", "raw", "-o", "cluster_size=16k"],
           ["-O", "qcow2", "-n"], ["-O", "qcow2", "-n", "--target-is-zero"]]


def run(*words):
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, (words, result)


def holes(descriptor, length):
    """Where data and holes begin."""
    marks, at, whence = [], 0, os.SEEK_DATA
    while at < length:
        try:
            at = os.lseek(descriptor, at, whence)
        except OSError:
            break
        marks.append(at)
        whence = os.SEEK_HOLE if whence == os.SEEK_DATA else os.SEEK_DATA
    return tuple(marks)


def identity(path):
    with open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size
        return hashlib.file_digest(file, "sha256").hexdigest(), length, holes(file.fileno(), length)


def make_sources(rnd):
    with open("base.raw", "wb") as file:
        file.truncate(5 << 20)
        for _ in range(40):
            file.seek(rnd.randrange(9000) * 512)
            size = rnd.randrange(512, 150000)
            file.write(rnd.randbytes(size) if rnd.random() < 0.3 else
                       rnd.randbytes(64) * (size // 64) if rnd.random() < 0.7 else bytes(size))
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "base.raw", "packed.qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top.qcow2")
    for _ in range(6):
        run("qemu-io", "-f", "qcow2", "-c",
            f"write {rnd.choice(['-z', '-P 7'])} {rnd.randrange(9000) * 512} {rnd.randrange(1, 300) * 512}",
            "top.qcow2")
    return [("base.raw", "raw"), ("packed.qcow2", "qcow2"), ("top.qcow2", "qcow2")]


def check(program, source, form, target, ways):
    first = None
    for number, way in enumerate(ways):
        words = [program, "convert", "--no-sync", *way, *target, "-f", form, source, "out"]
        if "-n" in target:
            # What is written frees clusters between those that stay.
            shutil.copyfile("packed.qcow2", "out")
        run(*(["taskset", "1"] if number == 1 and shutil.which("taskset") else []), *words)
        found = identity("out")
        os.unlink("out")
        first = first or (words, found)
        # O_DIRECT zeroes in other units, and a limited rate makes other chunks of nothing.
        alike = found == first[1] if "none" not in way else found[:2] == first[1][:2]
        assert alike, f"differ:\n{first}\n{(words, found)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("IMGCONV_SEED", "1")))
    parser.add_argument("--rounds", type=int, default=0, help="0: a part of one, for the suite")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.imgconv)
    conversions = 0
    for number in range(max(1, arguments.rounds)):
        rnd = random.Random(arguments.seed + number)
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            os.chdir(folder)
            for source, form in make_sources(rnd):
                for target in TARGETS:
                    if "-B" in target and source != "top.qcow2":
                        continue
                    ways = WAYS if arguments.rounds else [WAYS[0], *rnd.sample(WAYS[1:], 3)]
                    if not arguments.rounds and source != "base.raw" and rnd.random() < 0.5:
                        continue
                    if "-n" in target:
                        # O_DIRECT looks for zeros in other units, which shows where something was;
                        # and --verify sees that the target was not zero.
                        ways = [way for way in ways if not {"none", "--verify"} & set(way)]
                    if "-B" in target:
                        # The digest of a disk wants all of it to be copied.
                        ways = [way for way in ways if "--digest" not in way]
                    check(program, source, form, target, ways)
                    conversions += len(ways)
            os.chdir("/")
    print(f"{conversions} conversions, the same bytes each time")


if __name__ == "__main__":
    sys.exit(main())
