#!/usr/bin/env python3
"""Changes persistent bitmaps with imgconv and with the genuine qemu-img 10.0.2, and compares.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/bitmap_differential.py --imgconv build/imgconv
        [--seed N] [--rounds N] [--keep]

Each round makes an image with the genuine tool, copies it, and lets both programs do the same to
their copy: bitmap with random actions (wrong ones too), resize, convert -n into it, which enabled bitmaps
must record, convert --bitmaps from it. Between the steps writers die and programs that know no
bitmaps change the image. After each step exit status, messages, `info` and the bitmaps' bits, read
from the files by bitmap_reader.py, must be equal, and the genuine check must find our copy clean; at
the end the guest's content is compared. The suite runs the default rounds; for a long run:
--rounds 3000. Exit status 77: the genuine tool is not there.
"""
import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

from bitmap_reader import clear_feature, read_bitmaps, set_in_use

NAMES = ["b0", "b1", "second", "x" * 300, "name with blanks"]
SIZES = [512, 65536, 1 << 20, (1 << 20) + 512, 3 * (1 << 20) + 1536, 24 << 20]
OPTIONS = ["cluster_size=512", "cluster_size=4k", "", "cluster_size=2M", "extended_l2=on",
           "refcount_bits=1", "refcount_bits=64,cluster_size=1k", "data_file=data.raw", "backing"]
GRANULARITIES = ["512", "4k", "64k", "1M", "2G", "1000", "256", "4G", "0"]


class Difference(Exception):
    pass


def normalize(text):
    text = re.sub(r"'#block\d+'", "NODE", text)
    text = re.sub(r"persistent in '[^']*'", "persistent in NODE", text)
    text = re.sub(r"(bitmaps to) \S+:", r"\1 NODE:", text)
    # The genuine program forgets a newline.
    return text.replace("to fix.\n", "to fix.")


class Side:
    """One tool and its folder."""

    def __init__(self, tool, folder):
        self.tool = tool
        self.folder = folder
        os.mkdir(folder)

    def run(self, *words):
        result = subprocess.run([self.tool, *words], capture_output=True, check=False, timeout=60,
                                cwd=self.folder, env=dict(os.environ, LC_ALL="C", TZ="UTC"))
        return (result.returncode, result.stdout.decode(), normalize(result.stderr.decode()))

    def path(self, name):
        return os.path.join(self.folder, name)


class Round:
    def __init__(self, folder, ours, genuine, seed):
        self.random = random.Random(seed)
        self.genuine = genuine
        self.ours = Side(ours, os.path.join(folder, "ours"))
        self.theirs = Side(genuine, os.path.join(folder, "theirs"))
        self.steps = []

    def img(self, *words):
        subprocess.run([self.genuine, *words], check=True, cwd=self.theirs.folder,
                       stdout=subprocess.DEVNULL)

    def io(self, folder, name, commands):
        tool = os.path.join(os.path.dirname(self.genuine), "qemu-io")
        words = [word for command in commands for word in ("-c", command)]
        subprocess.run([tool, "-f", "qcow2", *words, name], check=True, cwd=folder,
                       stdout=subprocess.DEVNULL)

    def writes(self):
        commands = []
        for _ in range(self.random.randint(1, 3)):
            sectors = self.size // 512
            first = self.random.randrange(sectors)
            count = self.random.randint(1, min(sectors - first, 300))
            kind = self.random.choice(["write -P 7", "write -z", "write -z -u", "discard"])
            commands.append(f"{kind} {first * 512} {count * 512}")
        return commands

    def make(self):
        self.size = self.random.choice(SIZES)
        options = self.random.choice(OPTIONS)
        words = ["-o", options] if options and options != "backing" else []
        if options == "backing":
            self.img("create", "-q", "-f", "raw", "base.raw", str(self.size))
            words = ["-b", "base.raw", "-F", "raw"]
        self.img("create", "-q", "-f", "qcow2", *words, "img.qcow2", str(self.size))
        self.img("create", "-q", "-f", "qcow2", "other.qcow2",
                 str(self.size if self.random.random() < 0.8 else self.size + 512))
        for name in ("img.qcow2", "other.qcow2"):
            for bitmap in self.random.sample(NAMES, self.random.randint(0, 3)):
                granularity = self.random.choice(["512", "4k", "64k", "1M"])
                state = self.random.choice([["--disable"], []])
                self.img("bitmap", "--add", "-g", granularity, *state, name, bitmap)
                self.io(self.theirs.folder, name, self.writes())
        self.make_source("source.raw")
        for name in os.listdir(self.theirs.folder):
            shutil.copy(self.theirs.path(name), self.ours.path(name))
        self.steps.append(f"size {self.size}, {options}, {read_bitmaps(self.ours.path('img.qcow2'))}")

    def make_source(self, name):
        with open(self.theirs.path(name), "wb") as file:
            for _ in range(3):
                file.seek(self.random.randrange(self.size // 512) * 512)
                file.write(bytes([self.random.randrange(256)]) * 512 * self.random.randint(1, 200))
            file.truncate(self.size)

    def step(self):
        kind = self.random.choices(["bitmap", "convert", "record", "resize", "write", "die", "foreign"],
                                   [10, 3, 3, 3, 2, 1, 0.3])[0]
        getattr(self, kind)()

    def both(self, *words):
        self.steps.append(" ".join(words))
        mine, theirs = self.ours.run(*words), self.theirs.run(*words)
        if mine != theirs:
            raise Difference(f"ours:    {mine}\ngenuine: {theirs}")
        return mine[0] == 0

    def bitmap(self):
        words = []
        for _ in range(self.random.randint(1, 3)):
            action = self.random.choice(["--add", "--remove", "--clear", "--enable", "--disable",
                                         "--merge", "--merge"])
            words.append(action)
            if action == "--merge":
                words.append(self.random.choice(NAMES))
        if "--add" in words and self.random.random() < 0.7:
            words += ["-g", self.random.choice(GRANULARITIES)]
        if "--merge" in words and self.random.random() < 0.4:
            words += ["-b", "other.qcow2"]
        self.both("bitmap", *words, "img.qcow2", self.random.choice(NAMES))

    def convert(self):
        words = ["convert", "-O", "qcow2", "--bitmaps"]
        if self.random.random() < 0.6:
            words.append("--skip-broken-bitmaps")
        options = self.random.choice(["", "cluster_size=4k", "cluster_size=512", "compat=0.10"])
        # A refused conversion leaves the target as it was with us, and emptied with qemu-img.
        if self.both(*words, *(["-o", options] if options else []), "img.qcow2", "copy.qcow2"):
            self.compare("copy.qcow2")

    def record(self):
        words = self.random.choice([[], ["-S", "0"], ["-W"], ["-m", "1"]])
        self.both("convert", "-n", "-f", "raw", "-O", "qcow2", *words, "source.raw", "img.qcow2")

    def resize(self):
        size = self.random.choice([self.size, self.size + 512, min(2 * self.size, 48 << 20),
                                   max(512, self.size // 1024 * 512)])
        words = self.random.choice([["resize", "--shrink", "img.qcow2", str(size)],
                                    ["amend", "-o", f"size={size}", "img.qcow2"]])
        if self.both(*words):
            self.size = size
            self.make_source("source.raw")
            shutil.copy(self.theirs.path("source.raw"), self.ours.path("source.raw"))

    def write(self):
        commands = self.writes()
        self.steps.append(f"qemu-io {commands}")
        for side in (self.ours, self.theirs):
            self.io(side.folder, "img.qcow2", commands)

    def die(self):
        bitmaps = read_bitmaps(self.ours.path("img.qcow2"))
        if not bitmaps:
            return
        name = self.random.choice(bitmaps).name
        self.steps.append(f"in use: {name}")
        for side in (self.ours, self.theirs):
            set_in_use(side.path("img.qcow2"), name)

    def foreign(self):
        self.steps.append("changed by a program that knows no bitmaps")
        for side in (self.ours, self.theirs):
            clear_feature(side.path("img.qcow2"))
        # What bitmaps had is leaked from now on.
        for side in (self.ours, self.theirs):
            subprocess.run([self.genuine, "check", "-q", "-r", "leaks", "img.qcow2"], check=False,
                           cwd=side.folder, capture_output=True)

    def compare(self, name):
        mine, theirs = ([bitmap.state() for bitmap in read_bitmaps(side.path(name))]
                        for side in (self.ours, self.theirs))
        if mine != theirs:
            raise Difference(f"bitmaps of {name}\nours:    {mine!r:.2000}\ngenuine: {theirs!r:.2000}")
        infos = []
        for side in (self.ours, self.theirs):
            text = self.genuine_info(side, name)
            # On XFS the genuine tool gives its files an extent size hint.
            infos.append([line for line in text.splitlines()
                          if not re.search("disk size|file length|extent size hint", line)
                          and line != "    Format specific information:"])
        if infos[0] != infos[1]:
            raise Difference(f"info of {name}\nours:    {infos[0]}\ngenuine: {infos[1]}")
        check = subprocess.run([self.genuine, "check", name], cwd=self.ours.folder, check=False,
                               capture_output=True, text=True)
        if check.returncode != 0:
            raise Difference(f"check of our {name}: {check.stdout}{check.stderr}")

    def genuine_info(self, side, name):
        return subprocess.run([self.genuine, "info", name], cwd=side.folder, check=True,
                              capture_output=True, text=True).stdout

    def run(self):
        self.make()
        for _ in range(self.random.randint(2, 6)):
            self.step()
            self.compare("img.qcow2")
        compared = subprocess.run([self.genuine, "compare", "-f", "qcow2", "-F", "qcow2",
                                   os.path.join("ours", "img.qcow2"),
                                   os.path.join("theirs", "img.qcow2")], check=False,
                                  cwd=os.path.dirname(self.ours.folder), capture_output=True, text=True)
        # The data file is named relative to the current folder: it cannot be found from here.
        if compared.returncode == 1:
            raise Difference(f"guest content: {compared.stdout}")


def run_round(ours, genuine, seed, keep):
    folder = tempfile.mkdtemp(prefix="bitmaps-")
    test = Round(folder, ours, genuine, seed)
    try:
        test.run()
        return True
    except Difference as difference:
        print(f"seed {seed}:\n  " + "\n  ".join(test.steps) + f"\n{difference}\n", flush=True)
        return False
    finally:
        if keep:
            print(f"images: {folder}")
        else:
            shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("IMGCONV_SEED", "1")))
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--keep", action="store_true", help="leave the images where they are")
    arguments = parser.parse_args()
    genuine = os.environ.get("IMGCONV_QEMU_IMG10")
    if not genuine or not os.access(genuine, os.X_OK):
        print("qemu-img 10.0.2 is not here ($IMGCONV_QEMU_IMG10): skipped")
        sys.exit(77)
    folder = tempfile.mkdtemp()
    try:
        link = os.path.join(folder, "qemu-img")
        os.symlink(os.path.abspath(arguments.imgconv), link)
        failures = sum(not run_round(link, genuine, arguments.seed + i, arguments.keep)
                       for i in range(arguments.rounds))
    finally:
        shutil.rmtree(folder)
    print(f"{arguments.rounds} rounds from seed {arguments.seed} on, {failures} with differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
