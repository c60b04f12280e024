#!/usr/bin/env python3
"""What commands refuse, by imgconv and by the genuine qemu-img 10.0.2.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/refusals.py --imgconv build/imgconv
        [--only TEXT] [--verbose]

Every line of refusals.txt is run by both programs in copies of the same folder of images. Exit status,
stdout and stderr must be equal, and afterwards what `info` says of the images that the command names.
Most lines are refused; some stand here to show that their neighbour is not refused for another reason.
Where we differ on purpose, BETTER says why. Exit status 77: the genuine tools are not there.
"""
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys

from both_programs import argument_parser, both_programs

ENVIRONMENT = dict(os.environ, LC_ALL="C", TZ="UTC")

COMMANDS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "refusals.txt")

# Command: the reason why we answer otherwise, on purpose.
BETTER = {
    "commit oncorrupt.q": "what says of itself that it is damaged is not written to",
    "bitmap --add bmlost.q b7": "the original forgets the end of a line",
}
# Texts of Debian's parser of options and sizes; upstream's, which we have, are in CLI.md.
DEBIAN = {
    "resize plain.q", "commit -r x overlay.q", "dd if=plain.q of=new.raw bs=x",
    "dd if=plain.q of=new.raw count=x", "dd if=plain.q of=new.raw skip=x", "bench -c 0 r.raw",
    "bench -d 0 r.raw", "bench -w --pattern=256 r.raw", "bench -S x r.raw",
}


def run(words, folder):
    done = subprocess.run(words, cwd=folder, capture_output=True, check=False, env=ENVIRONMENT,
                          timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def poke(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def peek(path, offset, layout):
    with open(path, "rb") as file:
        file.seek(offset)
        return struct.unpack(layout, file.read(struct.calcsize(layout)))[0]


class Images:
    """The folder that both programs get a copy of."""

    def __init__(self, genuine, folder):
        self.genuine, self.io, self.folder = genuine, genuine.replace("qemu-img", "qemu-io"), folder
        os.makedirs(folder)
        self.plain_images()
        self.overlays()
        self.bitmaps()
        self.damaged()

    def img(self, *words):
        status, out, err = run([self.genuine, *words], self.folder)
        if status != 0:
            raise RuntimeError(f"{words}: {out} {err}")

    def create(self, name, options="", size="1M", base=None):
        below = ["-b", base[0], "-F", base[1]] if base else []
        options = ",".join(filter(None, ["cluster_size=" + ("16k" if "ext" in options else "4k"), options]))
        self.img("create", "-q", "-f", "qcow2", "-o", options, *below, name, size)
        return os.path.join(self.folder, name)

    def write(self, name, *commands):
        words = [word for command in commands for word in ("-c", command)]
        run([self.io, "-f", "raw" if name.endswith("raw") else "qcow2", *words, name], self.folder)

    def plain_images(self):
        for name, size in (("r.raw", "1M"), ("big.raw", "2M"), ("head.raw", "1M")):
            self.img("create", "-q", "-f", "raw", name, size)
            self.write(name, "write -q -P 5 64k 128k")
        # Looks like an image once it is written to the start of another file.
        poke(os.path.join(self.folder, "head.raw"), 0, b"QFI\xfb\0\0\0\x03")
        os.mkdir(os.path.join(self.folder, "dir.q"))
        for name, options in (("plain.q", ""), ("v2.q", "compat=0.10"), ("rc1.q", "refcount_bits=1"),
                              ("ext.q", "extended_l2=on"), ("lazy.q", "lazy_refcounts=on"),
                              ("data.q", "data_file=data.raw"), ("zstd.q", "compression_type=zstd"),
                              ("dataraw.q", "data_file=dataraw.raw,data_file_raw=on"),
                              ("zstddata.q", "compression_type=zstd")):
            self.create(name, options)
            self.write(name, "write -q -P 1 0 64k", "write -q -z 128k 64k")
        self.write("zstddata.q", "write -q -c -P 1 512k 64k")
        self.create("small.q", "cluster_size=512")
        self.img("create", "-q", "-f", "qcow2", "huge.q", "8T")
        for name, options in (("snap.q", ""), ("v2snap.q", "compat=0.10"), ("badsnap.q", ""),
                              ("snapsizes.q", "")):
            self.create(name, options)
            self.write(name, "write -q -P 1 0 64k")
            self.img("snapshot", "-c", "s1", name)
            self.write(name, "write -q -P 2 32k 64k")
        self.img("resize", "snapsizes.q", "2M")
        # Every cluster is counted three times, which is as far as two bits count.
        self.create("full.q", "refcount_bits=2")
        self.write("full.q", "write -q -P 1 0 64k")
        for name in ("s1", "s2"):
            self.img("snapshot", "-c", name, "full.q")

    def overlays(self):
        for name in ("base.q", "other.q"):
            self.create(name)
            self.write(name, "write -q -P 9 256k 256k")
        self.create("bigbase.q", size="2M")
        for name, options, base in (("overlay.q", "", ("base.q", "qcow2")),
                                    ("v2overlay.q", "compat=0.10", ("base.q", "qcow2")),
                                    ("top.q", "", ("overlay.q", "qcow2")),
                                    ("onraw.q", "", ("r.raw", "raw")),
                                    ("snapoverlay.q", "", ("base.q", "qcow2")),
                                    ("bmoverlay.q", "", ("base.q", "qcow2")),
                                    ("v2large.q", "compat=0.10", ("bigbase.q", "qcow2"))):
            self.create(name, options, "1M", base)
            self.write(name, "write -q -P 3 128k 256k")
        self.img("snapshot", "-c", "s1", "snapoverlay.q")
        self.img("bitmap", "--add", "bmoverlay.q", "b0")
        self.create("nobase.q", base=("base.q", "qcow2"))
        self.img("rebase", "-u", "-b", "gone.q", "-F", "qcow2", "nobase.q")
        # Overlays that do not say what their base is, so that it is guessed; one would turn it around.
        for name, command in (("onguessed.q", "write -q -P 3 0 64k"),
                              ("headonguessed.q", "write -q -s head.raw 0 64k")):
            path = self.create(name, base=("r.raw", "raw"))
            self.write(name, command)
            with open(path, "rb") as file:
                at = file.read(512).index(struct.pack(">II", 0xE2792ACA, 3))
            poke(path, at, struct.pack(">I", 0x12345678))

    def bitmaps(self):
        for name, size in (("bm.q", "1M"), ("bm2.q", "1M"), ("bmbig.q", "2M"), ("bmbad.q", "1M"),
                           ("bmlost.q", "1M")):
            self.create(name, size=size)
            self.img("snapshot", "-c", "s1", name)
            self.img("bitmap", "--add", name, "b0")
            self.img("bitmap", "--add", "--disable", name, "b1")
            self.write(name, "write -q -P 1 0 64k")
        bad = os.path.join(self.folder, "bmbad.q")
        with open(bad, "rb") as file:
            data = file.read()
        extension = data.index(struct.pack(">II", 0x23852875, 24), 104) + 8
        directory = struct.unpack(">Q", data[extension + 16:extension + 24])[0]
        poke(bad, directory + 12, struct.pack(">I", 3))
        poke(os.path.join(self.folder, "bmlost.q"), 88, bytes(8))

    def damaged(self):
        for name, offset, value in (("corrupt.q", 72, ">Q 2"), ("unknown.q", 72, ">Q 256"),
                                    ("future.q", 4, ">I 4"), ("encrypted.q", 32, ">I 1"),
                                    ("unaligned.q", 40, ">Q 513"), ("l1small.q", 36, ">I 0"),
                                    ("badrefcount.q", 48, ">Q 513")):
            path = self.create(name)
            layout, number = value.split()
            poke(path, offset, struct.pack(layout, int(number)))
        for name, base in (("oncorrupt.q", "corrupt.q"), ("onunknown.q", "unknown.q")):
            self.create(name, base=("base.q", "qcow2"))
            self.write(name, "write -q -P 3 128k 64k")
            self.img("rebase", "-u", "-b", base, "-F", "qcow2", name)
        bad = os.path.join(self.folder, "badsnap.q")
        poke(bad, peek(bad, 64, ">Q"), struct.pack(">Q", 513))
        shutil.copyfile(self.create("nodata.q", "data_file=lost.raw"), bad + ".copy")
        os.remove(os.path.join(self.folder, "lost.raw"))
        os.remove(bad + ".copy")
        # Version 2 with a snapshot of another size, which only other programs make.
        shutil.copyfile(os.path.join(self.folder, "v2snap.q"), os.path.join(self.folder, "v2small.q"))
        small = os.path.join(self.folder, "v2small.q")
        poke(small, peek(small, 64, ">Q") + 48, struct.pack(">Q", 512 << 10))


def normalize(text, genuine_name):
    text = text.replace(genuine_name, "qemu-img")
    text = re.sub(r"'#block\d+'", "NODE", text)
    text = re.sub(r"persistent in '[^']*'", "persistent in NODE", text)
    text = re.sub(r"(bitmaps to) \S+:", r"\1 NODE:", text)
    text = re.sub(r"Try 'qemu-img( \w+)? --help' for more info(rmation)?", "HINT", text)
    return re.sub(r"in \d+\.\d+ seconds", "in T seconds", text)


def facts(genuine, folder, words):
    """What `info` says of the images that are named, but for places, sizes on disk and dates."""
    found = {}
    for word in words:
        name = word.split("=")[-1]
        if not os.path.isfile(os.path.join(folder, name)):
            continue
        status, out, err = run([genuine, "info", "-U", "--output=json", name], folder)
        info = json.loads(out) if out else {}
        for key in ("actual-size", "children"):
            info.pop(key, None)
        for snapshot in info.get("snapshots", []):
            snapshot.pop("date-sec"), snapshot.pop("date-nsec")
        found[name] = (status, info, err)
    return found


def restore(images, place):
    """Makes the folder a copy of `images` again."""
    for name in set(os.listdir(place)) - set(os.listdir(images)):
        os.remove(os.path.join(place, name))
    for name in os.listdir(images):
        pair = [os.path.join(folder, name) for folder in (images, place)]
        if not os.path.isfile(pair[0]):
            continue
        stats = [os.stat(path) if os.path.exists(path) else None for path in pair]
        if stats[1] is None or (stats[0].st_size, stats[0].st_mtime_ns) != (stats[1].st_size, stats[1].st_mtime_ns):
            shutil.copy2(*pair)


def compare(tools, images, line, folder):
    """Returns what differs, and what the genuine tool says."""
    long_names = {"long": "x" * 900, "longer": "x" * 1100, "name1023": "n" * 1023, "name1024": "n" * 1024}
    words = shlex.split(re.sub(r"\{(\w+)\}", lambda match: long_names[match[1]], line))
    answers, states = {}, {}
    for who in ("ours", "genuine"):
        place = os.path.join(folder, who)
        restore(images, place)
        status, out, err = run([tools[who], *words], place)
        answers[who] = status, normalize(out, tools[who]), normalize(err, tools[who])
        states[who] = facts(tools["genuine"], place, words)
    lines = [f"    {who}: {answers[who]}" for who in answers] if answers["ours"] != answers["genuine"] else []
    if states["ours"] != states["genuine"]:
        lines += [f"    {who} then: {states[who]}" for who in states]
    return lines, answers["genuine"]


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", help="commands with this text in them")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    with open(COMMANDS, encoding="ascii") as file:
        commands = [line for line in file.read().splitlines() if line and arguments.only in line]
    differences = refused = 0
    with both_programs(arguments.imgconv) as tools:
        folder = os.getcwd()
        images = os.path.join(folder, "images")
        Images(tools["genuine"], images)
        for who in tools:
            shutil.copytree(images, os.path.join(folder, who))
        for line in commands:
            found, answer = compare(tools, images, line, folder)
            refused += answer[0] != 0
            if arguments.verbose:
                print(line, answer, sep="\n    ")
            if found and line not in BETTER and line not in DEBIAN:
                differences += 1
                print(line, *[f"{text:.1200}" for text in found], sep="\n")
    print(f"{len(commands)} commands, of which {refused} are refused; {differences} differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
