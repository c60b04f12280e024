#!/usr/bin/env python3
"""--digest and --verify from outside.

    tests/cli/digest.py --imgconv build/imgconv

The digest of the disk is that of the raw file that the genuine qemu-img makes of the same source,
whatever the target, the number of workers and the backend; the digest of the file is the file's, as
Python's hashlib computes it. --verify accepts what was written, and finds a write that the kernel
only claims to have done (strace's injection; left out where strace cannot trace).
"""
import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

ALGORITHMS = {"sha256": "sha256", "sha512": "sha512", "blake2b512": "blake2b", "sha3-256": "sha3_256"}


def hash_of(path, algorithm="sha256"):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, ALGORITHMS[algorithm]).hexdigest()


def run(*words, status=0):
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == status, (words, result)
    return result


def make_sources():
    rnd = random.Random(7)
    with open("disk.raw", "wb") as file:
        file.truncate(5 << 20)
        for _ in range(25):
            file.seek(rnd.randrange(9000) * 512)
            file.write(rnd.randbytes(rnd.randrange(1, 200000)) if rnd.random() < 0.7
                       else bytes(rnd.randrange(1, 200000)))
    with open("odd.raw", "wb") as file:
        file.write(rnd.randbytes(1000001))
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2")
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "disk.raw", "packed.qcow2")
    return [("disk.raw", "raw"), ("odd.raw", "raw"), ("disk.qcow2", "qcow2"),
            ("packed.qcow2", "qcow2")]


def digests_are_right(program):
    ways = [["-O", "raw"], ["-O", "qcow2"], ["-O", "qcow2", "-c", "-m", "16"],
            ["-O", "raw", "-m", "1"], ["-O", "raw", "-S", "0", "--aio", "threads"],
            ["-O", "qcow2", "--aio", "io_uring", "-W"], ["-O", "qcow2", "-o", "cluster_size=512"]]
    for source, form in make_sources():
        run("qemu-img", "convert", "-f", form, "-O", "raw", source, "guest.raw")
        for way in ways if source == "disk.raw" else ways[len(source) % 2::3]:
            wanted = [word for name in ALGORITHMS for word in ("--digest", name)]
            result = run(program, "convert", "--no-sync", *way, *wanted, "--digest", "file:sha256", "--verify",
                         "--output=json", "-f", form, source, "target")
            said = json.loads(result.stdout)
            assert said["verified"] is True
            for digest in said["digests"]:
                path = "guest.raw" if digest["content"] == "guest" else "target"
                assert digest["digest"] == hash_of(path, digest["algorithm"]), (source, way, digest)
            os.unlink("target")


def lines_are_those_of_sha256sum(program):
    for name in ("plain.raw", "two\nlines\\.raw"):
        result = run(program, "convert", "--digest", "sha256", "-f", "raw", "disk.raw", name)
        check = subprocess.run(["sha256sum", "-c", "--strict"], input=result.stdout, text=True,
                               capture_output=True, check=False)
        assert check.returncode == 0, (result.stdout, check)
    result = run(program, "convert", "--digest", "guest:sha256", "-O", "qcow2", "-f", "raw",
                 "disk.raw", "lines.qcow2")
    assert result.stdout == f"{hash_of('disk.raw')}  guest:lines.qcow2\n", result.stdout


def existing_targets(program):
    """-n and in place: the target may be larger, and be a longer file than the disk."""
    with open("larger.raw", "wb") as file:
        file.write(b"\7" * (7 << 20))
    result = run(program, "convert", "-n", "--verify", "--digest", "sha256", "--digest",
                 "file:sha256", "-f", "raw", "disk.raw", "larger.raw")
    lines = [line.split("  ") for line in result.stdout.splitlines()]
    assert lines == [[hash_of("disk.raw"), "guest:larger.raw"],
                     [hash_of("larger.raw"), "larger.raw"]], lines
    run("qemu-img", "create", "-q", "-f", "qcow2", "over.qcow2", "8M")
    run(program, "convert", "-n", "--verify", "-f", "raw", "-O", "qcow2", "disk.raw", "over.qcow2")


def overlays(program):
    shutil.copy("disk.raw", "base.raw")
    words = [program, "convert", "-f", "qcow2", "-O", "qcow2", "-B", "base.raw", "-F", "raw"]
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top.qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 3 1M 70k", "-c", "write -z 3M 1M", "top.qcow2")
    run(*words, "--verify", "--digest", "file:sha256", "top.qcow2", "copy.qcow2")
    refused = run(*words, "--digest", "sha256", "top.qcow2", "refused.qcow2", status=1)
    assert "backing file" in refused.stderr and not os.path.exists("refused.qcow2")


def zeros_are_not_read(program):
    """A terabyte without data: what is not there is neither read nor hashed by --verify."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "huge.qcow2", "1T")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 700G 1M", "huge.qcow2")
    run(program, "convert", "--verify", "--digest", "file:sha256", "-f", "qcow2", "-O", "qcow2",
        "huge.qcow2", "huge-copy.qcow2")
    run(program, "convert", "--verify", "-f", "qcow2", "-O", "raw", "huge.qcow2", "huge.raw")
    os.unlink("huge.raw")


def large_write(trace):
    """The second write of 128 KiB or more: which of its thread's it is, and how long."""
    counts, found = {}, 0
    with open(trace, encoding="utf-8", errors="replace") as file:
        for line in file:
            process = line.split()[0]
            write = re.search(r"pwrite64\(.*, (\d+), \d+(\)| <)", line)
            counts[process] = counts.get(process, 0) + bool(write)
            found += bool(write) and int(write.group(1)) >= 1 << 17
            if found == 2:
                return counts[process], int(write.group(1))
    raise AssertionError("no large writes")


def lost_writes_are_found(program):
    strace = shutil.which("strace")
    if not strace or subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True,
                                    check=False).returncode:
        return "strace cannot trace here, so no lost write was tried"
    with open("full.raw", "wb") as file:
        file.write(random.Random(3).randbytes(5 << 20))
    for form in ("raw", "qcow2"):
        tracing = [strace, "-f", "-o", "trace", "-e", "trace=pwrite64"]
        words = [program, "convert", "--no-sync", "-S", "4k", "--aio", "threads", "--threads", "1", "-m", "1", "-f",
                 "raw", "-O", form, "full.raw", "lost"]
        run(*tracing, *words)
        os.unlink("lost")
        number, length = large_write("trace")
        # The kernel says that all was written, and writes nothing.
        tracing += ["-e", f"inject=pwrite64:retval={length}:when={number}"]
        run(*tracing, *words)
        os.unlink("lost")
        result = run(*tracing, *words[:2], "--verify", *words[2:], status=1)
        assert "lost: verification failed at byte" in result.stderr, result.stderr
        assert not os.path.exists("lost")
    return ""


def another_name_has_no_such_option(program):
    os.symlink(program, "qemu-img")
    for option in ("--digest=sha256", "--verify", "--output=json"):
        result = run("./qemu-img", "convert", option, "-f", "raw", "disk.raw", "x.raw", status=1)
        assert "unrecognized option" in result.stderr, result.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    program = os.path.abspath(parser.parse_args().imgconv)
    # LeakSanitizer cannot work in a process that strace traces.
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        notes = [case(program) for case in
                 (digests_are_right, lines_are_those_of_sha256sum, existing_targets, overlays,
                  zeros_are_not_read, lost_writes_are_found, another_name_has_no_such_option)]
        os.chdir("/")
    print("digests: as promised", *filter(None, notes), sep="; ")


if __name__ == "__main__":
    sys.exit(main())
