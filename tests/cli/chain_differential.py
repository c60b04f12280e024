#!/usr/bin/env python3
"""Rebases, commits and copies the same random chains with imgconv and the genuine qemu-img 10.0.2.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/chain_differential.py --imgconv build/imgconv
                                         [--seed N] [--count N] [--only COMMAND]

Each round makes a chain of images with the genuine tools: sizes, formats, cluster sizes, versions,
subclusters and content are random, and little of it, so that layers often agree. Copies of the
folder go through the same command by both programs (ours through a link named qemu-img). Output and
exit status must be equal; afterwards, for every image of the folder, what the genuine tool says
must be equal: guest content, `map` without host offsets, `info` without sizes on disk, and `check`,
which must find nothing. The suite runs a few rounds; the long form is --count 2000, about an hour.
Exit status 77: the genuine tools are not there.
"""
import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

ENVIRONMENT = dict(os.environ, LC_ALL="C", TZ="UTC")
PATTERNS = (0, 1, 1, 2)


def run(*command):
    return subprocess.run(command, capture_output=True, check=False, env=ENVIRONMENT, timeout=120)


def must(*command):
    result = run(*command)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {result.returncode}\n{result.stderr.decode()}")
    return result.stdout


class Chain:
    """base <- mid <- top, and other: what is rebased onto, or a stranger."""

    def __init__(self, rng, qemu_img, qemu_io):
        self.rng, self.qemu_img, self.qemu_io = rng, qemu_img, qemu_io
        self.size = rng.choice((0, 512, 70000, 1 << 20, 2500 << 10, 5 << 20)) // 512 * 512
        self.formats = {"base": rng.choice(("raw", "qcow2")), "other": rng.choice(("raw", "qcow2")),
                        "mid": "qcow2", "top": "qcow2"}
        self.make("base", None)
        self.make("other", None)
        self.make("mid", "base")
        self.make("top", "mid" if rng.random() < 0.85 else None)

    def random_size(self):
        if self.rng.random() < 0.6:
            return self.size
        return max(0, self.size + self.rng.choice((-1, 1)) * self.rng.randrange(0, 1 << 20, 512))

    def options(self):
        rng = self.rng
        bits = rng.choice((9, 12, 12, 14, 16, 16, 16, 18, 21))
        options = [f"cluster_size={1 << bits}"]
        version = rng.random()
        if version < 0.2:
            return options + ["compat=0.10"]
        if bits >= 14 and version < 0.5:
            options.append("extended_l2=on")
        if rng.random() < 0.2:
            options.append(f"refcount_bits={rng.choice((8, 32, 64))}")
        if rng.random() < 0.2:
            options.append("compression_type=zstd")
        if rng.random() < 0.1:
            options.append("lazy_refcounts=on")
        return options

    def make(self, name, backing):
        form, size = self.formats[name], self.random_size()
        words = ["-o", ",".join(self.options())] if form == "qcow2" else []
        if backing:
            words += ["-b", backing, "-F", self.formats[backing]]
        must(self.qemu_img, "create", "-q", "-f", form, *words, name, str(size))
        self.fill(name, size, form)

    def fill(self, name, size, form):
        rng = self.rng
        commands = []
        for _ in range(rng.choice((0, 1, 4, 10)) if size else 0):
            unit = rng.choice((512, 4096, 65536))
            offset = rng.randrange(0, size, unit)
            length = min(size - offset, unit * rng.choice((1, 2, 7, 30)))
            kind = rng.random()
            if kind < 0.6:
                commands.append(f"write -P {rng.choice(PATTERNS)} {offset} {length}")
            elif kind < 0.8:
                commands.append(f"write -z {offset} {length}")
            elif kind < 0.9 or form == "raw":
                commands.append(f"discard {offset} {length}")
            elif offset % (2 << 20) == 0 or unit == 65536:
                commands.append(f"write -c -P {rng.choice(PATTERNS)} {offset} {length}")
        if commands:
            words = [word for command in commands for word in ("-c", command)]
            run(self.qemu_io, "-f", form, *words, name)

    def commit(self):
        rng = self.rng
        words = ["commit", "-f", "qcow2"]
        if rng.random() < 0.4:
            words += ["-b", rng.choice(("mid", "base", "base", "other"))]
        if rng.random() < 0.3:
            words.append("-d")
        if rng.random() < 0.2:
            words.append("-p")
        return words + ["top"]

    def dd(self):
        rng = self.rng
        words = ["dd", "-O", rng.choice(("raw", "qcow2"))]
        if rng.random() < 0.8:
            words.append(f"bs={rng.choice((511, 512, 1000, 4096, 65536, 1 << 20))}")
        if rng.random() < 0.5:
            words.append(f"count={rng.choice((0, 1, 3, 100, 5000))}")
        if rng.random() < 0.5:
            words.append(f"skip={rng.choice((0, 1, 2, 7, 1000))}")
        return words + ["if=top", "of=copy"]

    def rebase(self):
        rng = self.rng
        words = ["rebase", "-f", "qcow2"]
        if rng.random() < 0.25:
            words.append("-c")
        if rng.random() < 0.15:
            words.append("-u")
        target = rng.choice(("", "", "base", "base", "mid", "other", "other", "other", "nothere"))
        words += ["-b", target]
        if target and rng.random() < 0.95:
            words += ["-F", self.formats.get(target, "qcow2")]
        if rng.random() < 0.2:
            words.append("-p")
        return words + ["top"]


class Judge:
    def __init__(self, qemu_img):
        self.qemu_img = qemu_img

    def facts(self, name, command):
        """What the genuine tool says of an image, without what may differ."""
        info = run(self.qemu_img, "info", "--output=json", name)
        told = json.loads(info.stdout)
        for key in ("actual-size", "children"):
            told.pop(key, None)
        facts = {"info": told}
        if told["format"] == "qcow2":
            check = run(self.qemu_img, "check", name)
            facts["check"] = (check.returncode, check.stderr.decode())
            # Not 1: an image on a backing file that is not there cannot be checked.
            if check.returncode not in (0, 1):
                facts["unclean"] = check.stdout.decode()
        shown = run(self.qemu_img, "map", "--output=json", name)
        facts["map"] = shown.stderr.decode()
        if shown.returncode == 0:
            pieces = json.loads(shown.stdout)
            guest_bytes = self.guest_bytes(name)
            if command == "commit" and guest_bytes is not None:
                pieces = zeros_stored_as_zeros(pieces, guest_bytes)
            facts["map"] = merged_map(pieces, told["format"] == "raw")
        facts["content"] = self.content(name)
        return facts

    def content(self, name):
        guest_bytes = self.guest_bytes(name)
        return hashlib.sha256(guest_bytes).hexdigest() if guest_bytes is not None else "unreadable"

    def guest_bytes(self, name):
        target = name + ".guest"
        read = run(self.qemu_img, "convert", "-O", "raw", name, target)
        if read.returncode != 0:
            return None
        with open(target, "rb") as content:
            guest_bytes = content.read()
        os.unlink(target)
        return guest_bytes


def keeps_content(words):
    return words[0] in ("commit", "dd") or (words[0] == "rebase" and "-u" not in words)


def merged_map(pieces, is_raw):
    """Without host offsets, and without what the file system says of holes, which is another thing
    before and after it wrote its cache back."""
    merged = []
    for piece in pieces:
        piece.pop("offset", None)
        if is_raw or piece["depth"] > 0:
            piece.pop("zero")
            piece.pop("data")
        elif piece["data"]:
            piece["zero"] = False
        last = merged[-1] if merged else None
        if last and all(last.get(key) == piece.get(key)
                        for key in ("depth", "present", "compressed", "zero", "data")):
            last["length"] += piece["length"]
        else:
            merged.append(piece)
    return merged


def zeros_stored_as_zeros(pieces, guest_bytes):
    """Data of the layer itself that is zeros counts as a zero cluster. Where a grown image must not
    show what is below it, and a cluster reads as zeros then, ours becomes one; QEMU, which looks at
    the status of what is below and not at its bytes, writes the zeros."""
    unit = 512
    result = []
    for piece in pieces:
        if not piece["data"] or piece["compressed"] or piece["depth"] > 0:
            result.append(piece)
            continue
        end = piece["start"] + piece["length"]
        for start in range(piece["start"], end, unit):
            length = min(unit, end - start)
            is_zero = not any(guest_bytes[start:start + length])
            result.append(dict(piece, start=start, length=length, zero=is_zero, data=not is_zero))
    return result


def explain(mine, theirs):
    for key in sorted(set(mine) | set(theirs)):
        if mine.get(key) != theirs.get(key):
            print(f"    {key}\n      ours:    {str(mine.get(key)):.600}\n"
                  f"      genuine: {str(theirs.get(key)):.600}")


def one_round(folder, tools, qemu_io, seed, only):
    ours, genuine = tools
    rng = random.Random(seed)
    places = [os.path.join(folder, place) for place in ("ours", "genuine")]
    os.mkdir(places[0])
    os.chdir(places[0])
    chain = Chain(rng, genuine, qemu_io)
    words = getattr(chain, only or rng.choice(COMMANDS))()
    judge = Judge(genuine)
    before = judge.content("top")
    shutil.copytree(places[0], places[1])
    answers, facts = [], []
    for place, tool in zip(places, (ours, genuine)):
        os.chdir(place)
        result = run(tool, *words)
        answers.append({"exit status": result.returncode, "stdout": result.stdout.decode(),
                        "stderr": result.stderr.decode()})
        if "-p" in words:
            answers[-1].pop("stdout")
        facts.append({name: judge.facts(name, words[0]) for name in sorted(os.listdir("."))})
    unclean = [name for name, told in facts[0].items() if "unclean" in told]
    is_same = answers[0] == answers[1] and facts[0] == facts[1] and not unclean
    if keeps_content(words):
        if facts[1]["top"]["content"] != before or answers[1]["exit status"] < 0:
            # The genuine tool fell over an assertion (-c with subclusters), or lost zeros of a
            # version 2 image that had no backing file.
            is_same = not unclean
        is_same = is_same and facts[0]["top"]["content"] == before
    if not is_same:
        print(f"seed {seed}: qemu-img {' '.join(words)}   unclean: {unclean}")
        explain(*answers)
        for name in facts[0]:
            if facts[0][name] != facts[1].get(name):
                print(f"  {name}")
                explain(facts[0][name], facts[1].get(name, {}))
    os.chdir(folder)
    for place in places:
        shutil.rmtree(place)
    return is_same


COMMANDS = ("commit", "dd", "rebase")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("IMGCONV_SEED", "1")))
    parser.add_argument("--count", type=int, default=25)
    parser.add_argument("--only", choices=COMMANDS)
    arguments = parser.parse_args()
    genuine = os.environ.get("IMGCONV_QEMU_IMG10")
    qemu_io = os.path.join(os.path.dirname(genuine or ""), "qemu-io")
    if not genuine or not os.access(genuine, os.X_OK) or not os.access(qemu_io, os.X_OK):
        print("qemu-img and qemu-io 10.0.2 are not here ($IMGCONV_QEMU_IMG10): skipped")
        sys.exit(77)
    folder = tempfile.mkdtemp()
    different = 0
    try:
        ours = os.path.join(folder, "qemu-img")
        os.symlink(os.path.abspath(arguments.imgconv), ours)
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            different += not one_round(folder, (ours, genuine), qemu_io, seed, arguments.only)
    finally:
        os.chdir("/")
        shutil.rmtree(folder)
    print(f"{arguments.count} rounds from seed {arguments.seed}, {different} differ")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
