#!/usr/bin/env python3
"""Every command that changes an image on every kind of image, by imgconv and by the genuine qemu-img 10.0.2.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/change_cross.py --imgconv build/imgconv
        [--long] [--only TEXT] [--verbose]

Both programs run the command in copies of the same folder. Exit status, stdout and stderr must be equal,
and so must every file of the folder afterwards: what `info`, `check` and `map` of the genuine tool say,
the guest's bytes, those of each snapshot, the feature bits, and what the header has that nobody knows.
--long: all of the cross; the suite takes a part of it, the same every time. Where we differ on purpose,
BETTER says why. Exit status 77: the genuine tools are not there.
"""
import hashlib
import json
import os
import re
import shlex
import shutil
import struct
import sys

from bitmap_reader import read_bitmaps
from both_programs import argument_parser, both_programs
from refusals import normalize, poke, run

# The suite takes every case whose number leaves no remainder.
SUITE_STEP = 13
UNKNOWN_EXTENSION = 0x0FEDCBA9

# Kind: -o options of the image, words for its creation, what is done to it afterwards.
KINDS = {
    "v3": ("", "", []),
    "v2": ("compat=0.10", "", []),
    "tiny clusters": ("cluster_size=512", "", []),
    "subclusters": ("extended_l2=on", "", []),
    "1 bit": ("refcount_bits=1", "", []),
    "2 bits, snapshot": ("refcount_bits=2", "", ["snapshot"]),
    "4 bits, snapshot": ("refcount_bits=4", "", ["snapshot"]),
    "8 bits, snapshot": ("refcount_bits=8", "", ["snapshot"]),
    "32 bits, snapshot": ("refcount_bits=32", "", ["snapshot"]),
    "64 bits, snapshot": ("refcount_bits=64", "", ["snapshot"]),
    "zstd": ("compression_type=zstd", "", ["compressed"]),
    "deflate, snapshot": ("", "", ["compressed", "snapshot"]),
    "lazy": ("lazy_refcounts=on", "", []),
    "data file": ("data_file=x.data", "", []),
    "raw data file": ("data_file=x.data,data_file_raw=on", "", []),
    "data file, subclusters": ("data_file=x.data,extended_l2=on", "", []),
    "data file, overlay": ("data_file=x.data", "-b base.q -F qcow2", []),
    "snapshot": ("", "", ["snapshot"]),
    "snapshot of another size": ("", "", ["snapshot", "resize"]),
    "v2, snapshot": ("compat=0.10", "", ["snapshot"]),
    "subclusters, snapshot": ("extended_l2=on", "", ["snapshot"]),
    "bitmaps": ("", "", ["bitmaps"]),
    "bitmaps, snapshot": ("", "", ["snapshot", "bitmaps"]),
    "preallocated": ("preallocation=metadata", "", []),
    "preallocated subclusters": ("preallocation=falloc,extended_l2=on", "", []),
    "overlay": ("", "-b base.q -F qcow2", []),
    "v2 overlay": ("compat=0.10", "-b base.q -F qcow2", []),
    "overlay, subclusters": ("extended_l2=on", "-b base.q -F qcow2", []),
    "overlay of less": ("", "-b short.q -F qcow2", []),
    "overlay of more": ("", "-b long.q -F qcow2", []),
    "overlay of an overlay": ("", "-b middle.q -F qcow2", []),
    "overlay, snapshot, bitmaps": ("", "-b base.q -F qcow2", ["snapshot", "bitmaps"]),
    "unknown compatible bits, snapshot": ("", "", ["snapshot", (80, 0x8000000000000100)]),
    "unknown autoclear bits": ("", "", ["bitmaps", (88, 0x8000000000000101)]),
    "unknown extension, snapshot": ("cluster_size=8k", "-b base.q -F qcow2", ["extension", "snapshot"]),
    "unknown fields": ("", "", ["fields"]),
}
COMMANDS = """
resize x.q 3M
resize x.q 700M
resize --shrink x.q 300k
resize --shrink x.q 0
resize --preallocation=metadata x.q 3M
resize --preallocation=falloc x.q 1500k
resize --preallocation=full x.q 1500k
snapshot -c new x.q
snapshot -a s1 x.q
snapshot -d s1 x.q
amend -o compat=0.10 x.q
amend -o compat=1.1 x.q
amend -o refcount_bits=1 x.q
amend -o refcount_bits=8 x.q
amend -o refcount_bits=64,compat=1.1 x.q
amend -o lazy_refcounts=on x.q
amend -o lazy_refcounts=off,size=2M x.q
amend -o data_file=other.data x.q
amend -o data_file_raw=on x.q
amend -o data_file_raw=off x.q
bitmap --add x.q new
bitmap --add --disable -g 512 x.q new
bitmap --remove x.q b0
bitmap --clear --disable x.q b0
bitmap --merge b1 x.q b0
rebase -b '' x.q
rebase -b other.q -F qcow2 x.q
rebase -b short.q -F qcow2 x.q
rebase -c -b other.q -F qcow2 x.q
rebase -u -b '' x.q
rebase -u -b other.q -F qcow2 x.q
commit x.q
commit -d x.q
commit -b base.q x.q
check -r leaks x.q
check -r all x.q
convert -n -f raw -O qcow2 some.raw x.q
convert -n -f raw -O qcow2 -S 0 some.raw x.q
convert -n -f raw -O qcow2 zeros.raw x.q
convert -O qcow2 x.q out.q
convert -O qcow2 -l s1 x.q out.q
convert -O qcow2 --bitmaps x.q out.q
convert -O qcow2 -B other.q -F qcow2 x.q out.q
dd if=x.q of=out.raw bs=3k skip=20 count=200
dd -O qcow2 if=x.q of=out.q bs=1M
bench -q -w -c 30 -d 4 -s 3000 -S 9000 -o 5000 --pattern=7 --flush-interval=8 -f qcow2 x.q
bench -q -w -c 30 -d 4 -s 4096 --pattern=0 --flush-interval=2 --no-drain -f qcow2 x.q
measure -O qcow2 x.q
measure -O qcow2 -o extended_l2=on,refcount_bits=64,cluster_size=32k x.q
measure -O raw x.q
"""

# (Kinds, commands) as patterns: the reason why we answer otherwise, on purpose.
BETTER = {
    ("^v2($|,)", "^rebase .*-b (other|short)"): "zeros of version 2 stay zeros over a new backing file",
    ("^1 bit", "^snapshot -c"): "nothing leaks when it is refused",
    ("^zstd", "^amend -o compat=0.10"): "what is refused changes nothing",
    ("snapshot", "^amend -o compat=0.10"): "zeros are not put into what a snapshot shows as data",
    ("(snapshot.*bitmaps|bitmaps.*snapshot)", "^check -r"):
        "the original forgets the snapshots when it marks the bitmaps as in use",
    ("bitmaps|unknown autoclear", "^resize --preallocation"):
        "the original shows old bytes of clusters that were used before",
    ("^unknown fields", "^amend -o compat=0.10"): "the original leaves what it cannot open itself",
    ("subclusters", "^rebase -c"): "the original fails an assertion when some of them are the image's own",
}


class Images:
    """The folders that the programs get copies of, one for each kind."""

    def __init__(self, genuine, folder):
        self.genuine, self.io, self.folder = genuine, genuine.replace("qemu-img", "qemu-io"), folder
        os.makedirs(folder)
        for name, size in (("base.q", "1M"), ("short.q", "500k"), ("long.q", "2M"), ("other.q", "1M")):
            self.img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", name, size)
            self.write(name, f"write -q -P {len(name)} 64k 300k")
        self.img("create", "-q", "-f", "qcow2", "-b", "base.q", "-F", "qcow2", "middle.q")
        self.write("middle.q", "write -q -P 99 300k 100k")
        for name in ("some.raw", "zeros.raw"):
            self.img("create", "-q", "-f", "raw", name, "1M")
        self.write("some.raw", "write -q -P 55 70000 100000", "write -q -P 56 600k 5k")

    def img(self, *words):
        status, out, err = run([self.genuine, *words], self.folder)
        if status != 0:
            raise RuntimeError(f"{words}: {out} {err}")

    def write(self, name, *commands):
        words = [word for command in commands for word in ("-c", command)]
        run([self.io, "-f", "raw" if name.endswith("raw") else "qcow2", *words, name], self.folder)

    def make(self, kind):
        options, words, changes = KINDS[kind]
        if "cluster_size" not in options:
            options = f"cluster_size={'16k' if 'extended' in options else '4k'},{options}"
        for name in ("x.q", "x.data"):
            if os.path.exists(os.path.join(self.folder, name)):
                os.remove(os.path.join(self.folder, name))
        self.img("create", "-q", "-f", "qcow2", "-o", options.strip(","), *words.split(), "x.q", "1M")
        self.write("x.q", "write -q -P 1 0 100k", "write -q -P 2 205k 3k", "write -q -z 300k 200k")
        for change in changes:
            self.change(change)

    def change(self, change):
        path = os.path.join(self.folder, "x.q")
        if change == "compressed":
            self.write("x.q", "write -q -c -P 3 600k 64k")
        elif change == "snapshot":
            self.img("snapshot", "-c", "s1", "x.q")
            self.write("x.q", "write -q -P 4 50k 100k", "write -q -z 200k 10k")
        elif change == "resize":
            self.img("resize", "x.q", "2M")
        elif change == "bitmaps":
            self.img("bitmap", "--add", "-g", "4k", "x.q", "b0")
            self.write("x.q", "write -q -P 5 800k 20k")
            self.img("bitmap", "--add", "x.q", "b1")
            self.write("x.q", "write -q -P 5 900k 30k")
            self.img("bitmap", "--disable", "x.q", "b1")
        elif change == "extension":
            # In the place of the names of features, which are there to be left out.
            with open(path, "rb") as file:
                at = file.read(4096).index(struct.pack(">I", 0x6803F857), 104)
            poke(path, at, struct.pack(">I", UNKNOWN_EXTENSION))
        elif change == "fields":
            with open(path, "r+b") as file:
                header = file.read(4096)
                file.seek(0)
                file.write(header[:100] + struct.pack(">I", 120) + header[104:112] + b"unknown!" + header[112:-8])
        else:
            poke(path, change[0], struct.pack(">Q", change[1]))


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def read_json(text):
    try:
        return json.loads(text)
    except ValueError:
        return {}


def unknown_parts(path):
    """Feature bits, and what of the header nobody knows: both must survive."""
    with open(path, "rb") as file:
        header = file.read(4096)
    if header[7] < 3:
        return "version 2"
    extension = struct.pack(">I", UNKNOWN_EXTENSION)
    return header[72:96].hex(), header[112:int.from_bytes(header[100:104], "big")], extension in header


def merged_extents(extents):
    """As they would be if everything followed on the last in the file."""
    merged = []
    for extent in extents:
        extent.pop("offset", None)
        length = extent.pop("length")
        start = extent.pop("start")
        if merged and merged[-1][2:] == list(extent.values()):
            merged[-1][1] = start + length
        else:
            merged.append([start, start + length, *extent.values()])
    return merged


def state_of(genuine, folder, name):
    """All that the genuine tool says of the image, but for places, sizes on disk and dates."""
    if not name.endswith(".q"):
        return digest(os.path.join(folder, name))
    answers = {"header": unknown_parts(os.path.join(folder, name))}
    status, out, err = run([genuine, "info", "--output=json", name], folder)
    info = read_json(out)
    for key in ("actual-size", "children"):
        info.pop(key, None)
    for snapshot in info.get("snapshots", []):
        snapshot.pop("date-sec"), snapshot.pop("date-nsec")
    answers["info"] = status, info, err
    answers["bitmaps"] = [bitmap.state() for bitmap in read_bitmaps(os.path.join(folder, name))]
    status, out, err = run([genuine, "check", "--output=json", name], folder)
    check = read_json(out)
    answers["check"] = status, {key: check.get(key) for key in ("leaks", "corruptions", "check-errors")}
    status, out, err = run([genuine, "map", "--output=json", name], folder)
    answers["map"] = status, merged_extents(read_json(out) or []), err
    for words in ([], *(["-l", f"snapshot.id={one['id']}"] for one in info.get("snapshots", []))):
        status, _, err = run([genuine, "convert", *words, "-O", "raw", name, "content"], folder)
        content = os.path.join(folder, "content")
        answers[f"content {words}"] = status, err, digest(content) if status == 0 else None
        if os.path.exists(content):
            os.remove(content)
    return answers


def compare(tools, images, command, folder):
    """What is different after the command."""
    answers, places = {}, {}
    for who, tool in tools.items():
        places[who] = place = os.path.join(folder, who)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(images, place)
        status, out, err = run([tool, *shlex.split(command)], place)
        # An assertion that fails is said with the place in the source.
        answers[who] = status, normalize(out, tool), normalize(err, tool)
    lines = []
    if answers["ours"] != answers["genuine"]:
        lines += [f"    {who}: {answers[who]}" for who in answers]
    names = [set(os.listdir(place)) for place in places.values()]
    if names[0] != names[1]:
        lines.append(f"    only one has {sorted(names[0] ^ names[1])}")
    for name in sorted(names[0] & names[1]):
        pair = [os.path.join(place, name) for place in places.values()]
        if digest(pair[0]) == digest(pair[1]):
            continue
        states = {who: state_of(tools["genuine"], places[who], name) for who in tools}
        if isinstance(states["ours"], dict):
            for what in states["ours"] | states["genuine"]:
                mine, theirs = (states[who].get(what) for who in tools)
                if mine != theirs:
                    lines.append(f"    {name}, {what}:\n      ours    {mine}\n      genuine {theirs}")
        else:
            lines.append(f"    {name} differs")
    return lines


def is_on_purpose(kind, command):
    return any(re.search(kinds, kind) and re.search(commands, command) for kinds, commands in BETTER)


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--long", action="store_true", help="all of the cross")
    parser.add_argument("--only", help="cases with this text in 'KIND: COMMAND', all of them")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    cases = [(kind, command) for kind in KINDS for command in COMMANDS.split("\n") if command]
    if arguments.only:
        cases = [case for case in cases if arguments.only in ": ".join(case)]
    elif not arguments.long:
        cases = cases[::SUITE_STEP]
    differences = 0
    with both_programs(arguments.imgconv) as programs:
        folder = os.getcwd()
        images = Images(programs["genuine"], os.path.join(folder, "images"))
        made = None
        for kind, command in cases:
            if made != kind:
                images.make(kind)
                made = kind
            found = compare(programs, images.folder, command, folder)
            if arguments.verbose:
                print(f"{kind}: {command}")
            if found and not is_on_purpose(kind, command):
                differences += 1
                print(f"{kind}: {command}", *[f"{line:.1500}" for line in found], sep="\n", flush=True)
    print(f"{len(cases)} cases, {differences} differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
