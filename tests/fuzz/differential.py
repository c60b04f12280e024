#!/usr/bin/env python3
"""Damages images at random and asks both tools about them: info, check, map, convert.

    tests/fuzz/differential.py --imgconv build/imgconv [--count N | --seconds N] [--seed N] [--keep DIR]

Both must come to the same verdict: succeed or fail, the exit status of a check, the extents of the map,
the bytes of the copy. KNOWN lists where they do not, and why. The damage is that of mutate_images.py,
which knows where headers, tables, snapshots and bitmaps are. $IMGCONV_QEMU_IMG10 is the genuine tool;
without it, exit status 77. The same seed makes the same images. Each run has 5 seconds of processor
time and files of at most 256 MiB: whoever needs more has no verdict, and the image is left out.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

from mutate_images import COMPANIONS, IMAGES, Image, MAX_IMAGE_BYTES, damage

MAX_DISK_BYTES = 1 << 28
CPU_SECONDS = 5
COMMANDS = {
    "info": ["info", "--output=json", "-f", "qcow2", "image.qcow2"],
    "check": ["check", "-f", "qcow2", "image.qcow2"],
    "map": ["map", "--output=json", "-f", "qcow2", "image.qcow2"],
    "convert": ["convert", "-f", "qcow2", "-O", "raw", "image.qcow2", "out"],
}
# Command, what differs, what must stand in what we or they say, why.
KNOWN = (
    ("info", "theirs fails", r"Missing CRYPTO header|encryption header|LUKS|CRYPTO",
     "what is encrypted is described without looking into it"),
    ("info|map|convert", "theirs fails", r"bitmap_table|bitmap table",
     "an image whose bitmaps' tables are damaged can be read (cmd/README.md)"),
    ("convert", "ours fails", r"The image is truncated|is expected at byte",
     "what the file is too short for is an error, not zeros (engine/README.md, E11)"),
)


class Outcome:
    def __init__(self, status, said, result):
        self.status, self.said, self.result = status, said, result

    def is_ended_by_limit(self):
        return self.status < 0


def limit():
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_DISK_BYTES, MAX_DISK_BYTES))


def run(program, command):
    if os.path.exists("out"):
        os.unlink("out")
    with open("said", "wb") as said, open("printed", "wb") as printed:
        status = subprocess.run([program, *COMMANDS[command]], stdout=printed, stderr=said, check=False,
                                preexec_fn=limit).returncode
    with open("said", encoding="utf-8", errors="replace") as said:
        text = said.read(1 << 16)
    result = None
    if command == "map" and status == 0:
        with open("printed", encoding="utf-8") as printed:
            result = json.load(printed)
    if command == "convert" and status == 0:
        with open("out", "rb") as out:
            result = out.read()
    return Outcome(status, text, result)


def difference(ours, theirs):
    if ours.status != theirs.status:
        return ("ours fails" if theirs.status == 0 else "theirs fails" if ours.status == 0
                else f"{ours.status} here, {theirs.status} there")
    return None if ours.result == theirs.result else "another result"


def reason(command, what, ours, theirs):
    """Why the difference is meant; None if it is not."""
    for of_command, of_what, said, why in KNOWN:
        if re.fullmatch(of_command, command) and re.fullmatch(of_what, what) and re.search(
                said, ours.said + theirs.said):
            return why
    return None


class Tally:
    def __init__(self):
        self.images, self.runs, self.undecided = 0, 0, 0
        self.known, self.unknown = collections.Counter(), 0

    def text(self):
        lines = [f"{self.images} images, {self.runs} pairs of runs, {self.undecided} without a verdict, "
                 f"{self.unknown} unexplained differences"]
        return "\n".join(lines + [f"{count}: {why}" for why, count in self.known.most_common()])


def compare(programs, changes, tally, keep):
    """Asks both about image.qcow2."""
    tally.images += 1
    with open("image.qcow2", "rb") as file:
        data = file.read()
    for command in COMMANDS:
        ours, theirs = (run(program, command) for program in programs)
        tally.runs += 1
        if ours.is_ended_by_limit() or theirs.is_ended_by_limit():
            tally.undecided += 1
            continue
        what = difference(ours, theirs)
        if what is None:
            continue
        why = reason(command, what, ours, theirs)
        if why is not None:
            tally.known[f"{command}: {what}: {why}"] += 1
            continue
        tally.unknown += 1
        print(f"{command}: {what}: {changes}\n  here: {ours.said[:300]!r}\n"
              f"  there: {theirs.said[:300]!r}", flush=True)
        if keep:
            path = pathlib.Path(keep) / f"{command}-{tally.unknown}.qcow2"
            path.write_bytes(data)


def sources():
    paths = sorted(IMAGES.glob("*.qcow2")) + sorted((IMAGES / "fuzz" / "qcow2").iterdir())
    return [path for path in paths if path.stat().st_size <= MAX_IMAGE_BYTES]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("IMGCONV_SEED", "1")))
    parser.add_argument("--keep", metavar="DIR", help="for images that the tools disagree about")
    options = parser.parse_args()
    genuine = os.environ.get("IMGCONV_QEMU_IMG10")
    if not genuine:
        print("IMGCONV_QEMU_IMG10 does not name the genuine tool")
        return 77
    programs = [os.path.abspath(options.imgconv), genuine]
    keep = options.keep and os.path.abspath(options.keep)
    rnd, tally, paths = random.Random(options.seed), Tally(), sources()
    deadline = time.monotonic() + (options.seconds or 1e9)
    with tempfile.TemporaryDirectory() as folder:
        for name in COMPANIONS:
            shutil.copy(IMAGES / name, folder)
        os.chdir(folder)
        while time.monotonic() < deadline and (options.seconds or tally.images < options.count):
            path = rnd.choice(paths)
            image = Image(path.read_bytes())
            changes = [damage(rnd, image) for _ in range(rnd.choice([1, 1, 1, 2, 3]))]
            if image.get(24, 8) > MAX_DISK_BYTES:
                continue
            pathlib.Path("image.qcow2").write_bytes(image.data)
            compare(programs, f"{path.name} with {changes}", tally, keep)
        os.chdir("/")
    print(tally.text())
    return 1 if tally.unknown else 0


if __name__ == "__main__":
    sys.exit(main())
