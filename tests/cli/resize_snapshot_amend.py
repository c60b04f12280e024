#!/usr/bin/env python3
"""Changes copies of the same image by imgconv and by the genuine qemu-img 10.0.2, and compares.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/resize_snapshot_amend.py --imgconv build/imgconv
        [--seed N] [--cases N] [--only N] [--keep]

Each case makes an image of random options with qemu-img, fills it with qemu-io, and runs a random
sequence of resize, snapshot, amend and further writes on two copies, one for each program. After
every command exit status, stdout and stderr must agree. At the end of a case the guest's bytes, those
of every snapshot and what `info` says must agree (but for sizes on the host and dates), and the
genuine `check` must find our copy clean. A resize must leave our copy's bytes as they were, and zeros
behind them. What the genuine tool does worse is found by is_worse(), which says why; the case goes on
with our image. The suite runs a few cases; the long run is `--cases 3000`. The seed is 1 unless $IMGCONV_SEED or --seed names another. Exit status 77: no genuine tool.
"""
import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

ENV = dict(os.environ, LC_ALL="C", TZ="UTC")
MAX_SIZE = 4 << 20


def run(words, cwd, timeout=120):
    done = subprocess.run(words, cwd=cwd, capture_output=True, check=False, env=ENV, timeout=timeout)
    return done.returncode, done.stdout, done.stderr


def must(words, cwd):
    status, out, err = run(words, cwd)
    if status != 0:
        raise RuntimeError(f"{words}: {out!r} {err!r}")
    return out


class GenuineTooSlow(Exception):
    """qemu-img walks every entry of every refcount block, and large clusters have many."""


class Case:
    """One image in two folders, `ours` and `theirs`, which hold the same."""

    def __init__(self, tools, folder, rng):
        self.tools, self.folder, self.rng = tools, folder, rng
        self.log, self.differences = [], []
        self.size = rng.choice([65536, 200 << 10, 1 << 20, 3 << 20]) + 512 * rng.randrange(0, 40)
        self.version = 3
        self.make()

    def paths(self):
        return [os.path.join(self.folder, name) for name in ("ours", "theirs")]

    def make(self):
        rng = self.rng
        first = self.paths()[0]
        os.makedirs(first)
        genuine, io = self.tools["genuine"], self.tools["io"]
        options = {"cluster_size": rng.choice([512, 4096, 65536, 65536, 1 << 20])}
        self.cluster_size = options["cluster_size"]
        if rng.random() < 0.2:
            options["compat"], self.version = "0.10", 2
        else:
            options["refcount_bits"] = rng.choice([1, 2, 8, 16, 16, 16, 64])
            if rng.random() < 0.2 and options["cluster_size"] >= 16384:
                options["extended_l2"] = "on"
            if rng.random() < 0.2:
                options["compression_type"] = "zstd"
            if rng.random() < 0.1:
                options["lazy_refcounts"] = "on"
        has_backing = rng.random() < 0.4
        has_data_file = self.version == 3 and rng.random() < 0.15 and options.get("compression_type") is None
        if has_data_file:
            options["data_file"] = "data.raw"
            if not has_backing:
                options["data_file_raw"] = rng.choice(["on", "off"])
        words = [genuine, "create", "-q", "-f", "qcow2", "-o",
                 ",".join(f"{key}={value}" for key, value in options.items())]
        if has_backing:
            length = rng.choice([300 << 10, MAX_SIZE])
            must([genuine, "create", "-q", "-f", "raw", "base.raw", str(length)], first)
            must([io, "-f", "raw", "-c", f"write -q -P 7 0 {length}", "base.raw"], first)
            words += ["-b", "base.raw", "-F", "raw"]
        must([*words, "x.qcow2", str(self.size)], first)
        self.log.append(" ".join(words[3:]) + f" {self.size}")
        self.can_compress = not has_data_file and options.get("refcount_bits") != 1
        self.has_data_file = has_data_file
        self.write_guest(3)
        self.copy_folder()

    def copy_folder(self):
        ours, theirs = self.paths()
        shutil.rmtree(theirs, ignore_errors=True)
        shutil.copytree(ours, theirs)

    def write_guest(self, count):
        """The genuine tool writes the same to all copies there are."""
        rng = self.rng
        commands = []
        for _ in range(count):
            offset = rng.randrange(0, self.size // 512) * 512
            length = min(self.size - offset, 512 * rng.choice([1, 8, 100, 700, 3000]))
            kind = rng.choice(["write -P {p}", "write -P {p}", "write -z", "write -z -u", "discard", "write -c -P {p}"])
            kind = kind.format(p=rng.randrange(1, 200))
            if "-c" in kind:
                # Over clusters that exist qemu-io fails half-way, each time elsewhere: only before the copy.
                if not self.can_compress or os.path.isdir(self.paths()[1]):
                    continue
                offset -= offset % (1 << 20)
                length = min(1 << 20, self.size - offset)
            commands += ["-c", f"{kind} -q {offset} {length}" if kind != "discard" else f"discard -q {offset} {length}"]
        if not commands:
            return
        for path in self.paths():
            if os.path.isdir(path):
                run([self.tools["io"], "-f", "qcow2", *commands, "x.qcow2"], path)
        self.log.append("qemu-io " + " ".join(commands))

    def step(self):
        rng = self.rng
        what = rng.choice(["write", "resize", "resize", "snapshot", "snapshot", "snapshot", "amend", "amend"])
        if what == "write":
            self.write_guest(2)
            return
        words = getattr(self, what)()
        self.log.append(" ".join(words))
        ours, theirs = self.paths()
        before = self.content(ours)
        answers = [run([self.tools["ours"], *words], ours)]
        try:
            answers.append(run([self.tools["genuine"], *words], theirs, 20))
        except subprocess.TimeoutExpired as error:
            raise GenuineTooSlow from error
        is_half_done = what == "amend" or "-a" in words
        if is_half_done and answers[0] == answers[1] and answers[0][0] != 0:
            # We refuse before anything changes. qemu-img may have done half of an amend, and an apply
            # that no refcount is left for has given the disk the snapshot's size.
            self.copy_folder()
        if what == "resize" and answers[0][0] == 0:
            # What a shrink left behind the end, in the last cluster, comes back with both tools.
            after = self.content(ours)
            is_plain = after == before[:len(after)].ljust(len(after), b"\0")
            if not is_plain and after != self.content(theirs):
                self.differences.append("resize does not keep the bytes and add zeros")
        if self.is_worse(words, answers):
            self.copy_folder()
        elif answers[0] != answers[1]:
            self.differences.append(f"ours {answers[0]}, genuine {answers[1]}")
        self.size = self.read_size()

    def is_worse(self, words, answers):
        """Is this what the genuine tool is known to do worse?"""
        mine, theirs = answers
        if mine[0] == 0 and any(word.startswith("--preallocation") for word in words):
            # Clusters that were used before show their old bytes; of a last cluster that is compressed
            # or begins with zeros it loses what was there.
            return theirs[0] == 0 and self.content(self.paths()[0]) != self.content(self.paths()[1])
        if mine[0] == 0 and b"Failed to zero out new clusters: Operation not supported" in theirs[2]:
            # Zeros cannot be put over compressed subclusters there.
            return True
        if mine[0] == 0 and words[:2] == ["snapshot", "-c"] and theirs[2].endswith(b": Invalid argument\n"):
            # One bit of refcount cannot count a second user of an L2 table. Shrinking leaves it empty tables.
            info = json.loads(must([self.tools["genuine"], "info", "--output=json", "x.qcow2"], self.paths()[1]))
            return info["format-specific"]["data"]["refcount-bits"] == 1
        # Neither better nor worse: which cluster it is depends on the order of places.
        shared = [re.sub(rb"Cluster at offset 0x[0-9a-f]+", b"Cluster", err) for _, _, err in answers]
        return mine != theirs and mine[0] == theirs[0] == 1 and shared[0] == shared[1]

    def content(self, folder):
        must([self.tools["genuine"], "convert", "-O", "raw", "x.qcow2", "out.raw"], folder)
        with open(os.path.join(folder, "out.raw"), "rb") as file:
            return file.read()

    def read_size(self):
        out = must([self.tools["genuine"], "info", "--output=json", "x.qcow2"], self.paths()[1])
        return json.loads(out)["virtual-size"]

    def resize(self):
        rng = self.rng
        target = max(512, rng.choice([self.size + 512 * rng.randrange(0, 3000), rng.randrange(512, MAX_SIZE),
                                      self.size // 2, self.size + (1 << 20)]))
        target -= target % (1 if rng.random() < 0.05 else 512)
        target = min(target, 2 * MAX_SIZE)
        words = ["resize"]
        if target < self.size and rng.random() < 0.9:
            words.append("--shrink")
        if target > self.size or rng.random() < 0.05:
            mode = rng.choice(["off", "off", "off", "metadata", "falloc", "full"])
            if mode != "off":
                words.append("--preallocation=" + mode)
        change = target - self.size
        text = rng.choice([str(target), f"{change:+d}" if change else str(target)])
        return [*words, "x.qcow2", text]

    def snapshot(self):
        name = self.rng.choice(["a", "b", "1", "2"])
        return ["snapshot", self.rng.choice(["-c", "-c", "-a", "-d"]), name, "x.qcow2"]

    def amend(self):
        widths = ["refcount_bits=8", "refcount_bits=16", "refcount_bits=1", "refcount_bits=64",
                  "compat=1.1,refcount_bits=4", "compat=0.10,refcount_bits=16"]
        option = self.rng.choice(["compat=0.10", "compat=1.1", "lazy_refcounts=on", "lazy_refcounts=off",
                                  f"size={self.rng.randrange(1, 8000) * 512}", "data_file_raw=off",
                                  *(widths if self.cluster_size <= 4096 or self.rng.random() < 0.05 else [])])
        return ["amend", "-o", option, "x.qcow2"]

    def facts(self, path):
        info = json.loads(must([self.tools["genuine"], "info", "--output=json", "x.qcow2"], path))
        for key in ("actual-size", "children"):
            info.pop(key, None)
        for snapshot in info.get("snapshots", []):
            snapshot.pop("date-sec"), snapshot.pop("date-nsec")
        return info

    def compare(self):
        ours, theirs = self.paths()
        genuine = self.tools["genuine"]
        facts = [self.facts(path) for path in (ours, theirs)]
        if facts[0] != facts[1]:
            self.differences.append(f"info: ours {facts[0]}, genuine {facts[1]}")
        status, out, err = run([genuine, "check", "x.qcow2"], ours)
        if status != 0:
            self.differences.append(f"check: {status} {out + err!r}")
        ids = [None] + [s["id"] for s in facts[1].get("snapshots", [])]
        for snapshot in ids:
            selector = ["-l", f"snapshot.id={snapshot}"] if snapshot else []
            for path in (ours, theirs):
                must([genuine, "convert", *selector, "-O", "raw", "x.qcow2", "out.raw"], path)
            if run(["cmp", os.path.join(ours, "out.raw"), os.path.join(theirs, "out.raw")], ours)[0] != 0:
                self.differences.append(f"content of {snapshot or 'the disk'} differs")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("IMGCONV_SEED", "1")))
    parser.add_argument("--cases", type=int, default=15)
    parser.add_argument("--only", type=int, help="the case of this number")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    genuine = os.environ.get("IMGCONV_QEMU_IMG10", "")
    io = os.path.join(os.path.dirname(genuine), "qemu-io")
    if not (os.access(genuine, os.X_OK) and os.access(io, os.X_OK)):
        print("needs qemu-img 10.0.2 in $IMGCONV_QEMU_IMG10, and qemu-io beside it")
        return 77
    print(f"seed {arguments.seed}")
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        ours = os.path.join(folder, "qemu-img")
        os.symlink(os.path.abspath(arguments.imgconv), ours)
        tools = {"ours": ours, "genuine": genuine, "io": io}
        numbers = range(arguments.cases) if arguments.only is None else [arguments.only]
        for number in numbers:
            rng = random.Random(f"{arguments.seed}/{number}")
            case_folder = os.path.join(folder, f"case{number}")
            case = Case(tools, case_folder, rng)
            try:
                for _ in range(rng.randrange(2, 8)):
                    case.step()
                case.compare()
            except GenuineTooSlow:
                print(f"case {number}: qemu-img takes too long", *case.log, sep="\n  ")
            if case.differences:
                failures += 1
                print(f"case {number}:", *case.log, *[f"=> {d:.1500}" for d in case.differences], sep="\n  ")
                if arguments.keep:
                    shutil.copytree(case_folder, f"kept{number}", dirs_exist_ok=True)
            shutil.rmtree(case_folder)
    print(f"{len(numbers)} cases, {failures} with differences")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
