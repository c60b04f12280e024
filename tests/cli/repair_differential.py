#!/usr/bin/env python3
"""Damages images, has them repaired by imgconv and by the genuine qemu-img 10.0.2, and compares.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/repair_differential.py --imgconv build/imgconv
        [--only NAME] [--long] [--verbose]

For each kind of damage (damage*.py), check -r leaks and check -r all, with --long plain checks and
JSON too: copies of the image go through both programs. stdout, stderr and the exit status must
be equal. Then both copies must look the same to the genuine tool: what check says (its exit status
and its counters) and what a guest reads. Where we differ, and why, stands in BETTER. Exit status 77:
the genuine tool is not there.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

import damage_snapshots  # noqa: F401, adds its kinds to DAMAGES
from damage import DAMAGES
from damage_bases import Bases, Qcow2File

SHORT_MODES = [["-r", "leaks"], ["-r", "all"]]
LONG_MODES = [[], ["--output=json"], *SHORT_MODES, ["-q", "-r", "all"],
              ["-r", "all", "--output=json"]]
COUNTERS = ("corruptions", "leaks", "check-errors")
# Damage: (exit status of check after our -r all, why it differs from what the original leaves).
NO_GROWTH = "the original makes the file longer, to hold a block that counts nothing, and leaves it so"
GIVES_UP = "the original marks the image as corrupt while it rebuilds, and gives up"
BETTER = {
    "block_outside_plain": (0, NO_GROWTH),
    "block_outside_small": (0, NO_GROWTH),
    "block_far_outside": (0, NO_GROWTH),
    "block_beyond_63_bits": (0, NO_GROWTH),
    "first_block_outside": (0, NO_GROWTH),
    "table_is_l1": (0, NO_GROWTH),
    "table_is_header": (0, NO_GROWTH),
    "file_cut_small": (2, NO_GROWTH),
    "table_entry_reserved_bits_plain": (0, GIVES_UP),
    "table_entry_reserved_bits_small": (0, GIVES_UP),
    "block_unaligned_plain": (0, GIVES_UP),
    "block_unaligned_rc1": (0, GIVES_UP),
    "table_random": (0, GIVES_UP),
    "table_too_long": (0, GIVES_UP),
    "l1_points_to_itself": (2, "the original drops the refcounts that it has just repaired"),
    "snapshot_table_outside": (0, "the original leaves a leak: it cannot free what is not there"),
    "snapshots_in_header": (0, "the original takes the header for a snapshot that cannot be repaired"),
    "too_many_snapshots_in_header": (0, "the same"),
    "bitmap_table_outside": (0, "the original makes it a bitmap in which nothing is dirty"),
    "bitmap_table_entry_bad": (0, "the original can open such an image for nothing"),
    "bitmap_feature_bit_lost": (0, "the original forgets the end of a line"),
}
# The same for -r leaks, of which nothing is expected but an equal exit status.
OTHER_WORDS = {"bitmap_table_outside", "bitmap_table_entry_bad", "bitmap_feature_bit_lost",
               "refcount_of_data_lost_bitmaps", "bitmaps_and_lost_refcounts",
               # The original marks the image as corrupt and says so; it is no worse than before.
               "block_unaligned_plain", "block_unaligned_rc1", "table_random"}


class Judge:
    def __init__(self, ours, genuine, verbose):
        self.tools = {"ours": ours, "genuine": genuine}
        self.verbose = verbose

    def run(self, who, words, folder):
        result = subprocess.run([self.tools[who], *words], capture_output=True, check=False,
                                timeout=300, cwd=folder, env=dict(os.environ, LC_ALL="C"))
        return result.returncode, result.stdout.decode(), result.stderr.decode()

    def state(self, folder):
        """What the genuine tool thinks of the image, and what a guest reads."""
        status, out, _ = self.run("genuine", ["check", "--output=json", "victim"], folder)
        counters = {k: v for k, v in json.loads(out).items() if k in COUNTERS} if out else {}
        readable, _, _ = self.run("genuine", ["convert", "--salvage", "-O", "raw", "victim", "raw"], folder)
        with open(os.path.join(folder, "raw"), "a+b") as file:
            file.seek(0)
            content = file.read()
        return status, counters, readable, hashlib.sha256(content).hexdigest()

    def ask(self, damage, function, base, mode):
        """Returns lines on what differs."""
        answers, states = {}, {}
        for who in self.tools:
            with tempfile.TemporaryDirectory(dir=".") as folder:
                victim = os.path.join(folder, "victim")
                shutil.copyfile(base, victim)
                shutil.copyfile("data.raw", os.path.join(folder, "data.raw"))
                image = Qcow2File(victim)
                function(image)
                image.close()
                answers[who] = self.run(who, ["check", *mode, "victim"], folder)
                states[who] = self.state(folder) if "-r" in mode else None
        what = f"{damage} {' '.join(mode)}"
        lines = []
        if self.verbose:
            for who in self.tools:
                status, out, err = answers[who]
                lines.append(f"== {what} {who}\n{out}{err}[{status}] then {states[who]}")
        if "all" in mode and damage in BETTER:
            if states["ours"][0] != BETTER[damage][0]:
                lines.append(f"{what}: ours is left as {states['ours']}")
            return lines
        if damage in OTHER_WORDS and answers["ours"][0] == answers["genuine"][0]:
            return lines
        for part, mine, theirs in zip(("exit status", "stdout", "stderr"), *answers.values()):
            if mine != theirs:
                lines.append(f"{what}: {part}\n    ours:    {mine!r:.1500}\n    genuine: {theirs!r:.1500}")
        if states["ours"] != states["genuine"]:
            lines.append(f"{what}: state afterwards\n    {states['ours']}\n    {states['genuine']}")
        return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--only", default="", help="damages with this in their name")
    parser.add_argument("--long", action="store_true", help="every mode, not only the repairs")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    genuine = os.environ.get("IMGCONV_QEMU_IMG10")
    if not genuine or not os.access(genuine, os.X_OK):
        print("IMGCONV_QEMU_IMG10 does not name qemu-img 10.0.2: nothing compared")
        sys.exit(77)
    questions = [(name, function, base, mode) for name, base, function in DAMAGES
                 for mode in (LONG_MODES if arguments.long else SHORT_MODES)
                 if arguments.only in name]
    differences = 0
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "bin"))
        ours = os.path.join(folder, "bin", "qemu-img")
        os.symlink(os.path.abspath(arguments.imgconv), ours)
        os.chdir(folder)
        Bases(genuine).make_all()
        judge = Judge(ours, genuine, arguments.verbose)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for lines in pool.map(lambda question: judge.ask(*question), questions):
                differences += 0 if arguments.verbose else len(lines)
                print("".join(line + "\n" for line in lines), end="")
    print(f"{len(questions)} questions on {len(DAMAGES)} kinds of damage, {differences} differences")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
