#!/usr/bin/env python3
"""A source that was cut off anywhere is an error, and harms nothing.

    tests/cli/cut_sources.py --imgconv build/imgconv

An overlay that the genuine qemu-img made is cut at every 512 bytes. Then convert, dd, commit and
rebase either fail or keep the whole content: what a table names and the file lacks is never taken
for zeros. The one exception is the end of a data cluster, which a writer may have left out.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

CLUSTER = 1024
SIZE = 512 << 10


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False)


def content_of(name):
    with open(name, "rb") as file:
        return file.read().ljust(SIZE, b"\0")


def make_images():
    """Data in each of the four L2 tables, of which the last ends the file."""
    with open("base.raw", "wb") as base:
        base.write(b"B" * SIZE)
    for words in (["create", "-q", "-f", "qcow2", "-o", f"cluster_size={CLUSTER}", "-b", "base.raw",
                   "-F", "raw", "top.qcow2"],):
        assert run("qemu-img", *words).returncode == 0
    commands = []
    for table in range(4):
        commands += ["-c", f"write -P {0x41 + table} {table * 128}k 3k"]
    assert run("qemu-io", "-f", "qcow2", *commands, "top.qcow2").returncode == 0
    assert run("qemu-img", "convert", "-O", "raw", "top.qcow2", "whole.raw").returncode == 0


def data_clusters():
    answer = run("qemu-img", "map", "--output=json", "top.qcow2").stdout
    clusters = set()
    for extent in json.loads(answer):
        if extent["data"] and extent["depth"] == 0:
            first = extent["offset"] // CLUSTER
            clusters.update(range(first, (extent["offset"] + extent["length"] - 1) // CLUSTER + 1))
    return clusters


class Commands:
    """Each leaves the disk in result.raw, or fails."""

    def __init__(self, program):
        self.program = program

    def convert(self):
        return run(self.program, "convert", "--no-sync", "-O", "raw", "cut.qcow2", "result.raw")

    def dd(self):
        return run(self.program, "dd", "-O", "raw", "bs=1M", "if=cut.qcow2", "of=result.raw")

    def commit(self):
        # The backing file's name stays; the whole folder is the test's.
        shutil.copyfile("base.raw", "kept.raw")
        before = content_of("cut.qcow2")
        done = run(self.program, "commit", "-q", "-t", "unsafe", "cut.qcow2")
        os.rename("base.raw", "result.raw")
        os.rename("kept.raw", "base.raw")
        assert done.returncode == 0 or content_of("cut.qcow2") == before, "the overlay has changed"
        return done

    def rebase(self):
        done = run(self.program, "rebase", "-q", "-t", "unsafe", "-b", "", "cut.qcow2")
        if done.returncode == 0:
            assert run("qemu-img", "convert", "-O", "raw", "cut.qcow2", "result.raw").returncode == 0
        return done


def check_cut(program, length, whole):
    failures = 0
    commands = Commands(program)
    for command in (commands.convert, commands.dd, commands.commit, commands.rebase):
        shutil.copyfile("top.qcow2", "cut.qcow2")
        os.truncate("cut.qcow2", length)
        result = command()
        where = f"{command.__name__} of {length} bytes: {result}"
        assert result.returncode in (0, 1), where
        if result.returncode == 0:
            assert content_of("result.raw") == whole, f"{where}: the content is another one"
        else:
            assert len(result.stderr.splitlines()) <= 3 and result.stderr, where
            failures += 1
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    program = os.path.abspath(parser.parse_args().imgconv)
    if shutil.which("qemu-io") is None:
        print("no qemu-io: skipped")
        return 77
    # Some commands sync at their end, and a busy disk makes them wait.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        os.chdir(folder)
        make_images()
        data, whole = data_clusters(), content_of("whole.raw")
        cuts = failures = 0
        for length in range(os.path.getsize("top.qcow2"), 0, -512):
            if length % CLUSTER != 0 and length // CLUSTER in data:
                continue
            cuts += 1
            failures += check_cut(program, length, whole)
        assert check_cut(program, os.path.getsize("top.qcow2"), whole) == 0, "uncut, and refused"
        os.chdir("/")
    assert failures > cuts, "hardly a cut was noticed"
    print(f"{cuts} cuts, {failures} refusals, nothing else was wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
