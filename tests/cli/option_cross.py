#!/usr/bin/env python3
"""Crosses the options of create, convert and measure at random, and has both programs do the same.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/option_cross.py --imgconv build/imgconv
        [--cases 150] [--seed 1] [--only N]

Each case has a source (raw with holes, zeros and text; or qcow2 of some kind), options of the target,
and options of the command. imgconv and the genuine qemu-img 10.0.2 make the target in the same folder
under the same name. Status and texts must be equal, the targets too: byte for byte where the layout
is promised, else for `check`, `info`, `map`, `compare` and a round trip, each asked by both tools of
both targets. `measure` must answer the same, and a target that is not compressed must not be larger.
A difference is printed with the number of its case: --only N runs that one and keeps its folder.
Long run: --cases 5000 (about half an hour). Exit status 77: the genuine tool is not there.
"""
import argparse
import filecmp
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

KIB, MIB = 1 << 10, 1 << 20


class Case:
    """What one case does; everything follows from the seed and its number."""

    def __init__(self, seed, number):
        self.random = random.Random(f"{seed}/{number}")
        pick = self.random.choice
        self.source_format = pick(["raw", "raw", "raw", "qcow2"])
        self.size = pick([0, 512, 70 * KIB, MIB, MIB + 512, 3 * MIB + 1536, 5 * MIB])
        self.source_options = pick(["", "", "cluster_size=4k", "cluster_size=512", "extended_l2=on",
                                    "compat=0.10"]) if self.source_format == "qcow2" else ""
        self.is_source_compressed = self.source_format == "qcow2" and pick([False, False, True])
        self.command = pick(["create", "convert", "convert", "convert"])
        self.has_backing = pick([False] * 5 + [True])
        self.options = self.make_options()
        self.words = self.make_words()

    def make_options(self):
        pick = self.random.choice
        options = []

        def maybe(share, text):
            if self.random.random() < share:
                options.append(text)

        maybe(0.7, "cluster_size=" + pick(["512", "1k", "2k", "4k", "4k", "16k", "32k", "64k", "128k",
                                           "512k", "2M"]))
        maybe(0.2, "compat=" + pick(["0.10", "1.1", "v2", "v3"]))
        maybe(0.35, "refcount_bits=" + pick(["1", "2", "4", "8", "16", "32", "64"]))
        maybe(0.2, "extended_l2=" + pick(["on", "on", "off"]))
        maybe(0.1, "lazy_refcounts=" + pick(["on", "off"]))
        maybe(0.35, "preallocation=" + pick(["off", "metadata", "falloc", "full"]))
        maybe(0.2, "compression_type=" + pick(["zlib", "zstd"]))
        if self.random.random() < 0.12:
            options.append("data_file=data.raw")
            maybe(0.5, "data_file_raw=on")
        self.random.shuffle(options)
        return options

    def make_words(self):
        pick = self.random.choice
        words = []
        if self.command == "convert":
            has_data_file = any(option.startswith("data_file") for option in self.options)
            if pick([False, False, True]) and not has_data_file:
                words.append("-c")
            if pick([False, False, False, True]):
                words += ["-S", pick(["0", "4k", "8k", "64k", "512"])]
            if pick([False, False, False, True]):
                words += ["-m", pick(["1", "4", "16"])]
            if "-c" not in words and pick([False] * 7 + [True]):
                words.append("-W")
        return words

    def has_same_layout(self):
        """-W writes in any order, and zeros over a backing file come later (engine decision E12)."""
        return "-W" not in self.words and not self.has_backing

    def is_known_difference(self):
        """Preallocation lays more than one refcount block, and a disk of size 0, out differently."""
        text = ",".join(self.options)
        if "preallocation=" not in text and "data_file_raw=on" not in text:
            return False
        values = dict(option.split("=") for option in self.options)
        bits = int(values.get("refcount_bits", 16))
        cluster = values.get("cluster_size", "64k")
        cluster_size = int(cluster.rstrip("kM")) << {"k": 10, "M": 20}.get(cluster[-1], 0)
        return self.size == 0 or (self.size + 64 * cluster_size) * bits > cluster_size * cluster_size * 8

    def is_mapped_beforehand(self):
        """measure counts data only, the file reaches over all of the disk."""
        return "preallocation=metadata" in self.options or "data_file_raw=on" in self.options

    def option_words(self):
        return ["-o", ",".join(self.options)] if self.options else []

    def backing_words(self):
        return ["-B" if self.command == "convert" else "-b", "base.qcow2", "-F", "qcow2"]

    def target_words(self):
        words = ["-O" if self.command == "convert" else "-f", "qcow2"]
        words += self.option_words() + self.words
        if self.has_backing:
            words += self.backing_words()
        if self.command == "create":
            return ["create", *words, "out.qcow2", str(self.size)]
        return ["convert", "-f", self.source_format, *words, "source", "out.qcow2"]


def write_source(case, path):
    """Runs of text, noise, zeros and holes whose ends are sometimes aligned."""
    rng = case.random
    with open(path, "wb") as file:
        at = 0
        while at < case.size:
            unit = rng.choice([512, 4 * KIB, 64 * KIB])
            length = min(case.size - at, unit * rng.randint(1, 8))
            kind = rng.choice(["hole", "hole", "zeros", "text", "noise"])
            if kind != "hole":
                file.seek(at)
                file.write(b"\0" * length if kind == "zeros" else
                           (b"all work and no play %d\n" % at * (length // 8))[:length]
                           if kind == "text" else rng.randbytes(length))
            at += length
        file.truncate(case.size)


class Runner:
    def __init__(self, ours, genuine):
        self.ours = ours
        self.genuine = genuine
        self.differences = []
        self.identical = 0

    def run(self, tool, *words):
        result = subprocess.run([tool, *words], capture_output=True, check=False, timeout=120,
                                env=dict(os.environ, LC_ALL="C", TZ="UTC"))
        return result.returncode, result.stdout, result.stderr

    def differ(self, what, mine, theirs):
        self.differences.append(f"  {what}\n    ours:    {mine!r:.1500}\n    genuine: {theirs!r:.1500}")

    def ask_both(self, *words):
        mine, theirs = (self.run(tool, *words) for tool in (self.ours, self.genuine))
        if mine != theirs:
            self.differ("qemu-img " + " ".join(words), mine, theirs)
        return theirs

    def must(self, tool, *words):
        result = self.run(tool, *words)
        if result[0] != 0:
            self.differences.append(f"  {os.path.basename(tool)} {' '.join(words)}: {result!r:.1500}")
        return result

    def make_sources(self, case):
        write_source(case, "source.raw")
        if case.source_format == "raw":
            os.link("source.raw", "source")
        else:
            words = ["-c"] if case.is_source_compressed else []
            if case.source_options:
                words += ["-o", case.source_options]
            self.must(self.genuine, "convert", "-f", "raw", "-O", "qcow2", *words, "source.raw", "source")
        if case.has_backing:
            self.must(self.genuine, "create", "-q", "-f", "qcow2", "base.qcow2", str(case.size))

    def run_case(self, case):
        self.differences = []
        self.make_sources(case)
        answers = []
        for tool, folder in ((self.ours, "ours"), (self.genuine, "genuine")):
            answers.append(self.run(tool, *case.target_words()))
            os.mkdir(folder)
            for name in ("out.qcow2", "data.raw"):
                if os.path.exists(name):
                    os.rename(name, os.path.join(folder, name))
        if answers[0] != answers[1]:
            self.differ(" ".join(case.target_words()), *answers)
        if answers[0][0] == 0 and answers[1][0] == 0:
            self.question_targets(case)
        self.question_measure(case, answers[1][0] == 0)
        return not self.differences

    def question_targets(self, case):
        names = [name for name in ("out.qcow2", "data.raw") if os.path.exists("genuine/" + name)]
        same, different, missing = filecmp.cmpfiles("ours", "genuine", names, shallow=False)
        is_identical = not different and not missing
        self.identical += is_identical
        described = []
        for folder in ("ours", "genuine"):
            for name in names:
                os.link(f"{folder}/{name}", name)
            if folder == "ours" or not is_identical:
                described.append(self.describe(case))
            for name in names:
                os.unlink(name)
        if not case.has_same_layout() or case.is_known_difference():
            return
        for (what, mine), (_, theirs) in zip(described[0], described[-1]):
            if mine != theirs:
                self.differ(what, mine, theirs)

    def describe(self, case):
        """What both tools say of the target; they must agree."""
        answers = [("check", self.ask_both("check", "out.qcow2")),
                   ("map", self.ask_both("map", "--output=json", "out.qcow2")),
                   ("info", self.ask_both("info", "--output=json", "out.qcow2"))]
        answers[2] = ("info", without_disk_size(answers[2][1][1]))
        if case.command == "convert":
            self.must(self.genuine, "compare", "-f", "raw", "source.raw", "out.qcow2")
            self.must(self.ours, "compare", "-f", "raw", "source.raw", "out.qcow2")
        return answers

    def question_measure(self, case, was_made):
        words = ["measure", "--output=json", "-O", "qcow2", *case.option_words()]
        if case.command == "convert":
            answer = self.ask_both(*words, "-f", case.source_format, "source")
        else:
            answer = self.ask_both(*words, "--size", str(case.size))
        if answer[0] != 0 or not was_made or not os.path.exists("ours/out.qcow2"):
            return
        if case.is_mapped_beforehand():
            return
        report = json.loads(answer[1])
        limit = report["fully-allocated" if "-S" in case.words or case.command == "create" else "required"]
        length = os.path.getsize("ours/out.qcow2")
        if length > limit and not case.is_known_difference():
            self.differences.append(f"  measure promised {limit} bytes, convert made {length}")


def without_disk_size(text):
    try:
        info = json.loads(text)
    except ValueError:
        return text
    sizes = [info]
    sizes += [child["info"] for child in info.get("children", [])]
    for part in sizes:
        part.pop("actual-size", None)
    return info


def run_all(runner, arguments):
    numbers = [arguments.only] if arguments.only is not None else range(arguments.cases)
    failed = 0
    for number in numbers:
        folder = tempfile.mkdtemp(prefix=f"cross-{number}-")
        os.chdir(folder)
        case = Case(arguments.seed, number)
        if not runner.run_case(case):
            failed += 1
            print(f"case {number}: {case.size} bytes of {case.source_format} {case.source_options}: "
                  f"qemu-img {' '.join(case.target_words())}")
            print("\n".join(runner.differences))
        os.chdir("/")
        if arguments.only is not None:
            print(f"folder: {folder}")
        else:
            shutil.rmtree(folder)
    print(f"seed {arguments.seed}: {len(numbers)} cases, {runner.identical} with identical targets, "
          f"{failed} with differences")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--cases", type=int, default=150)
    parser.add_argument("--seed", default=os.environ.get("IMGCONV_SEED", "1"))
    parser.add_argument("--only", type=int)
    arguments = parser.parse_args()
    genuine = os.environ.get("IMGCONV_QEMU_IMG10")
    if not genuine or not os.access(genuine, os.X_OK):
        print("qemu-img 10.0.2 is not here ($IMGCONV_QEMU_IMG10): skipped")
        sys.exit(77)
    folder = tempfile.mkdtemp()
    link = os.path.join(folder, "qemu-img")
    os.symlink(os.path.abspath(arguments.imgconv), link)
    try:
        failed = run_all(Runner(link, genuine), arguments)
    finally:
        shutil.rmtree(folder)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
