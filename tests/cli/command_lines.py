#!/usr/bin/env python3
"""Runs random command lines with imgconv and the genuine qemu-img 10.0.2, and compares everything.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/command_lines.py --imgconv build/imgconv
                                         [--seed N] [--count N] [--only COMMAND]

Options, values, spellings, operands and their order are drawn from the grammar of CLI.md section 14
(command_grammar.py); a few are wrong on purpose. Each line is run in two copies of a folder of small
images, ours through a link named qemu-img. Exit status, stdout, stderr and the folders afterwards
must be equal: raw files and foreign ones byte by byte, qcow2 images by what the genuine tool tells
of them (info, check, compare). What differs and may is in DELIBERATE, each with its reason, and is
counted. The suite runs some hundred lines of a fixed seed; the long form is --count 20000.
Exit status 77: the genuine tools are not there.
"""
import argparse
import collections
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

import command_grammar

ENVIRONMENT = dict(os.environ, LC_ALL="C", TZ="UTC")
QCOW2_MAGIC = b"QFI\xfb"


class Outcome:
    def __init__(self, words, folder):
        try:
            result = subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True,
                                    check=False, timeout=60, stdin=subprocess.DEVNULL)
            self.status, out, err = result.returncode, result.stdout, result.stderr
        except subprocess.TimeoutExpired:
            self.status, out, err = "out of time", b"", b""
        self.stdout = self.plain(out.decode("utf-8", "surrogateescape"))
        self.stderr = self.plain(err.decode("utf-8", "surrogateescape"))

    @staticmethod
    def plain(text):
        """Without what differs from run to run."""
        text = re.sub(r"disk size: .*", "disk size: N", text)
        text = re.sub(r"(\"(?:actual-size|date-n?sec|vm-clock-nsec)\": )\d+", r"\g<1>0", text)
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE", text)
        return re.sub(r"in [0-9.]+ seconds", "in T seconds", text)


# (reason, command or None, pattern of what the genuine tool says, pattern of what ours says). Either is
# looked for in stderr with stdout behind it, line by line.
DELIBERATE = [
    ("Debian's build has texts of its own for misuse; ours are upstream's (CLI.md 1.1)", None,
     r"^Try '.* --help' for more info$|^qemu-img: .*: (unrecognized|option|ambiguous)", r"^qemu-img: "),
    ("help texts are our own", None, r"^Usage:", r"^Usage:|^usage:|--object OBJDEF"),
    ("Debian's build has texts of its own for numbers; ours are upstream's (CLI.md 1.2)", None,
     r"^qemu-img: Invalid .* specified(: '|\. Must be between 1 and 16)", r"^qemu-img: Invalid "),
    ("Debian's dd takes no suffixes in count and skip (CLI.md 9)", "dd",
     r"^qemu-img: Invalid (count|skip) specified: '", r""),
    ("'file' is a driver to open images with, not a format to create or to measure", None,
     r"", r"^qemu-img: (.*: )?Unknown file format 'file'$"),
    ("creation options are checked before the target is made", None,
     r"Could not create '.*': |Could not resize ", r"^qemu-img: "),
    ("a message about bitmaps names the image, not a node", "bitmap",
     r"bitmaps? .*(in|to) '?#block\d+'?", r"bitmaps? .*(in|to) '?\S+\.(raw|qcow2)'?"),
    ("the original loads bitmaps when it repairs, and finds its own new ones leaked", "check",
     r"^Repairing cluster", r"^No errors were found"),
]


def differs(genuine, ours):
    return (genuine.status, genuine.stdout, genuine.stderr) != (ours.status, ours.stdout, ours.stderr)


def deliberate(command, genuine, ours):
    """The reason why this difference is meant, or None."""
    told = [outcome.stderr + outcome.stdout for outcome in (genuine, ours)]
    for reason, only, theirs, instead in DELIBERATE:
        if only in (None, command) and re.search(theirs, told[0], re.MULTILINE) and re.search(
                instead, told[1], re.MULTILINE):
            return reason
    return None


class Images:
    """The folder that every line begins with, made by the genuine tools."""

    def __init__(self, place, qemu_img):
        self.folder = os.path.join(place, "images")
        os.mkdir(self.folder)
        self.qemu_img = qemu_img
        rng = random.Random(1)
        data = bytearray(256 << 10)
        for begin, length in ((0, 5000), (70000, 9000), (200 << 10, 56 << 10)):
            data[begin:begin + length] = bytes(rng.randrange(1, 256) for _ in range(64)) * (length // 64)
        with open(os.path.join(self.folder, "r.raw"), "wb") as file:
            file.write(data[:256 << 10])
        with open(os.path.join(self.folder, "odd.raw"), "wb") as file:
            file.write(b"MZ" * 750)
        for line in (
                "convert -f raw -O qcow2 -o cluster_size=4k r.raw q.qcow2",
                "convert -c -f raw -O qcow2 -o cluster_size=16k r.raw c.qcow2",
                "create -q -f qcow2 -o cluster_size=8k -b q.qcow2 -F qcow2 o.qcow2",
                "create -q -f qcow2 -o cluster_size=4k s.qcow2 128k",
                "snapshot -c one s.qcow2", "snapshot -c two s.qcow2", "bitmap --add -g 512 s.qcow2 b0",
                "bitmap --add s.qcow2 b1", "bitmap --disable s.qcow2 b1",
                "create -q -f qcow2 -o compat=0.10,cluster_size=4k v2.qcow2 64k",
                "create -q -f qcow2 -u -b nothere -F raw lost.qcow2 64k"):
            subprocess.run([qemu_img, *line.split()], cwd=self.folder, env=ENVIRONMENT, check=True)
        self.content = self.read(self.folder)

    @staticmethod
    def read(folder):
        found = {}
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "rb") as file:
                found[name] = file.read()
        return found

    def copy_to(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder)

    def ask(self, folder, *words):
        return Outcome([self.qemu_img, *words], folder)

    def describe(self, folder, name):
        """What the genuine tool tells of an image, without sizes on disk."""
        info = self.ask(folder, "info", "--output=json", "-f", "qcow2", name)
        said = info.stderr
        if not said:
            facts = json.loads(info.stdout)
            facts.pop("actual-size", None)
            facts.pop("children", None)
            said = json.dumps(facts, sort_keys=True)
        check = self.ask(folder, "check", "-q", "-f", "qcow2", name)
        return info.status, said, check.status

    def compare(self, genuine_folder, our_folder):
        """How the folders differ, or None."""
        theirs, ours = self.read(genuine_folder), self.read(our_folder)
        if set(theirs) != set(ours):
            return f"files {sorted(theirs)}, ours {sorted(ours)}"
        for name, content in theirs.items():
            if content == ours[name]:
                continue
            if not (content.startswith(QCOW2_MAGIC) and ours[name].startswith(QCOW2_MAGIC)):
                return f"{name} has other bytes"
            told = [self.describe(folder, name) for folder in (genuine_folder, our_folder)]
            if told[0] != told[1]:
                return f"{name}: {told[0]}, ours {told[1]}"
            same = self.ask(genuine_folder, "compare", "-f", "qcow2", "-F", "qcow2", name,
                            os.path.join(our_folder, name))
            # 2: it cannot be opened, which describe() found to be so for both.
            if same.status not in (0, 2):
                return f"{name}: {same.stdout}"
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("IMGCONV_SEED", "5")))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    qemu_img = os.environ.get("IMGCONV_QEMU_IMG10", "")
    if not os.access(qemu_img, os.X_OK):
        print("skipped: no qemu-img 10 ($IMGCONV_QEMU_IMG10)")
        sys.exit(77)
    rng = random.Random(arguments.seed)
    reasons, succeeded, failures = collections.Counter(), 0, 0
    with tempfile.TemporaryDirectory() as place:
        link = os.path.join(place, "qemu-img")
        os.symlink(os.path.abspath(arguments.imgconv), link)
        images = Images(place, qemu_img)
        folders = [os.path.join(place, "genuine"), os.path.join(place, "ours")]
        for number in range(arguments.count):
            command, words = command_grammar.line(rng, arguments.only)
            for folder in folders:
                images.copy_to(folder)
            genuine, ours = (Outcome([program, *words], folder)
                             for program, folder in zip((qemu_img, link), folders))
            succeeded += genuine.status == 0
            if differs(genuine, ours):
                reason = deliberate(command, genuine, ours)
                if reason:
                    reasons[reason] += 1
                    continue
                problem = (f"genuine {genuine.status}\n{genuine.stdout}{genuine.stderr}"
                           f"ours {ours.status}\n{ours.stdout}{ours.stderr}")
            else:
                problem = images.compare(*folders)
            if problem:
                failures += 1
                print(f"line {number}: {command_grammar.quoted(words)}\n{problem}", flush=True)
    for reason, times in reasons.most_common():
        print(f"{times} times: {reason}")
    print(f"seed {arguments.seed}: {arguments.count} lines, of which {succeeded} succeed; "
          f"{failures} differ")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
