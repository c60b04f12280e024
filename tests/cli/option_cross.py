#!/usr/bin/env python3
"""Crosses the options of create, convert and measure at random, and has both programs do the same.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/option_cross.py --imgconv build/imgconv
        [--cases 150] [--seed 1] [--only N]

Each case has a source (raw with holes, zeros and text; or qcow2 of some kind), options of the target,
and options of the command. imgconv and the genuine qemu-img 10.0.2 make the target in the same folder
under the same name, or fill the same existing one (convert -n; the genuine tool made it, sometimes
with a snapshot, sometimes as a crash left it). Status and texts must be equal, the targets too: byte
for byte where the layout is promised, else for `check`, `info`, `map` and `compare`, each asked by
both tools of both targets. `measure` must answer the same, and no target may be larger than it said.
A difference is printed with the number of its case: --only N runs that one and keeps its folder.
Long run: --cases 3000 (about half an hour). Exit status 77: the genuine tool is not there.
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
        self.size = pick([0, 512, 70 * KIB, MIB, MIB + 512, 3 * MIB + 1536, 5 * MIB, 24 * MIB + 512])
        self.source_options = pick(["", "", "cluster_size=4k", "cluster_size=512", "extended_l2=on",
                                    "compat=0.10"]) if self.source_format == "qcow2" else ""
        self.is_source_compressed = self.source_format == "qcow2" and pick([False, False, True])
        self.command = pick(["create", "convert", "convert", "convert", "fill"])
        self.has_backing = self.command != "fill" and pick([False] * 5 + [True])
        self.options = self.make_options()
        self.words = self.make_words()
        if self.command == "create":
            self.make_larger()
        self.has_old_content = "-c" not in self.words and pick([False, True, True])
        self.has_old_snapshot = self.has_old_content and pick([False, False, True])
        self.is_dirty = pick([False, False, True])

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
        if self.command != "create":
            if pick([False, False, True]):
                words.append("-c")
            if pick([False, False, False, True]):
                words += ["-S", pick(["0", "4k", "8k", "64k", "512"])]
            if pick([False, False, False, True]):
                words += ["-m", pick(["1", "4", "16"])]
            if "-c" not in words and pick([False] * 7 + [True]):
                words.append("-W")
        return words

    def has_same_layout(self):
        """-W writes in any order, and zeros over a backing file come later (engine decision E12).
        Space that an existing image gives up is not reused before the next flush. With -S 0 holes
        and data that follow each other are one request, so that a refcount block may come later.
        Compressed clusters are as long as our own deflate encoder makes them (formats decision F2)."""
        return ("-W" not in self.words and not self.has_backing and self.command != "fill"
                and "0" not in self.words and not self.is_deflated())

    def has_bare_tables(self):
        """Behind the end of the disk, to the end of its cluster, the genuine tool writes zeros, which
        map shows as data; here nothing is written."""
        return "preallocation=metadata" in self.options

    def is_deflated(self):
        return "-c" in self.words and "compression_type=zstd" not in self.options

    def make_larger(self):
        """An empty disk costs only its tables, of which there may then be many."""
        pick = self.random.choice
        if "preallocation=full" in self.options or not pick([False, True]):
            return
        is_mapped = any(option.startswith(("preallocation", "data_file_raw")) for option in self.options)
        self.size = self.random.randrange(200 * MIB if is_mapped else 64 << 30) & -512

    def is_known_difference(self, answers):
        """What cannot be compressed into a data file is refused at once; the genuine tool finds out
        when it writes, or at the end, without a word. It cannot replace what an existing image has
        by compressed clusters (engine decision E8)."""
        status, text = answers[1][0], answers[1][2]
        if "-c" not in self.words or status != 1:
            return False
        if any(option.startswith("data_file=") for option in self.options):
            return answers[0][0] == 1 and (not text or b"Operation not supported" in text)
        return self.command == "fill"

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
        if self.command == "fill":
            return ["convert", "-n", "-f", self.source_format, "-O", "qcow2", *self.words, "source",
                    "out.qcow2"]
        return ["convert", "-f", self.source_format, *words, "source", "out.qcow2"]


def write_source(case, path):
    """Runs of text, noise, zeros and holes whose ends are sometimes aligned. Empty for `create`."""
    rng = case.random
    with open(path, "wb") as file:
        at = case.size if case.command == "create" else 0
        while at < case.size:
            unit = rng.choice([512, 4 * KIB, 64 * KIB, 64 * KIB])
            length = min(case.size - at, unit * rng.randint(1, 8))
            kind = rng.choice(["hole", "hole", "zeros", "text", "noise"])
            if kind != "hole":
                file.seek(at)
                file.write(b"\0" * length if kind == "zeros" else
                           (b"all work and no play %d\n" % at * (length // 8))[:length]
                           if kind == "text" else rng.randbytes(length))
            at += length
        file.truncate(case.size)


def leave_as_after_a_crash(rng):
    """The dirty bit, and refcounts that lag behind."""
    with open("out.qcow2", "r+b") as file:
        header = file.read(112)
        version = int.from_bytes(header[4:8], "big")
        if version < 3:
            return
        file.seek(79)
        file.write(bytes([header[79] | 1]))
        cluster_size = 1 << int.from_bytes(header[20:24], "big")
        block = int.from_bytes(read_at(file, int.from_bytes(header[48:56], "big"), 8), "big")
        if header[99] == 4:
            # The count of a cluster somewhere in the first block.
            file.seek(block + 2 * rng.randrange(3, cluster_size // 2))
            file.write(rng.choice([b"\0\0", b"\0\1", b"\0\3"]))


def read_at(file, offset, length):
    file.seek(offset)
    return file.read(length)


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

    def make_old_target(self, case):
        """False when the options do not make an image."""
        words = ["create", "-q", "-f", "qcow2", *case.option_words(), "out.qcow2", str(case.size)]
        if self.run(self.genuine, *words)[0] != 0:
            return False
        if case.has_old_content:
            write_source(case, "old.raw")
            self.must(self.genuine, "convert", "-n", "-f", "raw", "-O", "qcow2", "old.raw", "out.qcow2")
        has_data_file = os.path.exists("data.raw")
        if case.has_old_snapshot and not has_data_file and "refcount_bits=1" not in case.options:
            self.must(self.genuine, "snapshot", "-c", "old", "out.qcow2")
        if case.is_dirty:
            leave_as_after_a_crash(case.random)
        for name in ("out.qcow2", "data.raw"):
            if os.path.exists(name):
                os.rename(name, "before." + name)
        return True

    def run_case(self, case):
        self.differences = []
        self.make_sources(case)
        if case.command == "fill" and not self.make_old_target(case):
            return True
        answers = []
        for tool, folder in ((self.ours, "ours"), (self.genuine, "genuine")):
            for name in ("out.qcow2", "data.raw"):
                if os.path.exists("before." + name):
                    shutil.copyfile("before." + name, name)
            answers.append(self.run(tool, *case.target_words()))
            os.mkdir(folder)
            for name in ("out.qcow2", "data.raw"):
                if os.path.exists(name):
                    os.rename(name, os.path.join(folder, name))
        if answers[0] != answers[1] and not case.is_known_difference(answers):
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
        if case.is_deflated():
            mine, theirs = (os.path.getsize(f"{folder}/out.qcow2") for folder in ("ours", "genuine"))
            if mine > theirs * 1.005 + 1024:
                self.differ("length of the compressed image", mine, theirs)
        if not case.has_same_layout():
            return
        different = [(what, mine, theirs)
                     for (what, mine), (_, theirs) in zip(described[0], described[-1])
                     if mine != theirs and not (what == "map" and case.has_bare_tables())]
        is_from_qcow2 = case.command == "convert" and case.source_format == "qcow2"
        if different and is_from_qcow2 and self.is_alike_from_raw(case):
            return
        for what, mine, theirs in different:
            self.differ(what, mine, theirs)

    def is_alike_from_raw(self, case):
        """The genuine tool asks for space extent by extent of the source, so that the place of a
        refcount block depends on how scattered the source is; ours does not. From a raw file with
        the same content both must make the same image."""
        words = ["raw" if word == case.source_format and before == "-f" else word
                 for before, word in zip([""] + case.target_words(), case.target_words())]
        words[words.index("source")] = "source.raw"
        told = []
        for tool in (self.ours, self.genuine):
            self.must(tool, *words)
            told.append([self.must(self.genuine, *question, "out.qcow2")
                         for question in (["check"], ["map", "--output=json"])])
            for name in ("out.qcow2", "data.raw"):
                if os.path.exists(name):
                    os.unlink(name)
        return told[0] == told[1]

    def describe(self, case):
        """What both tools say of the target; they must agree."""
        answers = [("check", self.ask_both("check", "out.qcow2")),
                   ("map", self.ask_both("map", "--output=json", "out.qcow2")),
                   ("info", self.ask_both("info", "--output=json", "out.qcow2"))]
        answers[2] = ("info", without_disk_size(answers[2][1][1]))
        if case.command != "create":
            self.must(self.genuine, "compare", "-f", "raw", "source.raw", "out.qcow2")
            self.must(self.ours, "compare", "-f", "raw", "source.raw", "out.qcow2")
        return answers

    def question_measure(self, case, was_made):
        backing = ["backing_file=base.qcow2", "backing_fmt=qcow2"] if case.has_backing else []
        options = case.options + backing
        words = ["measure", "--output=json", "-O", "qcow2"]
        if options:
            words += ["-o", ",".join(options)]
        if case.command != "create":
            answer = self.ask_both(*words, "-f", case.source_format, "source")
        else:
            answer = self.ask_both(*words, "--size", str(case.size))
        if answer[0] != 0 or not was_made or case.command == "fill":
            return
        report = json.loads(answer[1])
        # Some cases hold more than the data of the source, but never more than everything.
        needs_more = "-S" in case.words or case.command == "create" or case.is_mapped_beforehand()
        limit = report["fully-allocated" if needs_more else "required"]
        length = os.path.getsize("ours/out.qcow2")
        genuine_length = os.path.getsize("genuine/out.qcow2")
        if genuine_length == limit and length != limit and case.has_same_layout():
            self.differences.append(f"  measure promised {limit} bytes to the byte, convert made {length}")
        # A refcount table that grew leaves its old place behind; then the genuine file is as long.
        if length > max(limit, genuine_length):
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
        # On XFS the genuine tool asks for large extents when it creates a file.
        part.get("format-specific", {}).get("data", {}).pop("extent-size-hint", None)
    return info


def run_all(runner, arguments):
    numbers = [arguments.only] if arguments.only is not None else range(arguments.cases)
    failed = 0
    for number in numbers:
        folder = tempfile.mkdtemp(prefix=f"cross-{number}-")
        os.chdir(folder)
        case = Case(arguments.seed, number)
        try:
            is_alike = runner.run_case(case)
        except subprocess.TimeoutExpired as error:
            # The genuine tool hangs once in a while: a wake-up is lost.
            is_alike = error.cmd[0] == runner.genuine
            print(f"case {number}: {' '.join(error.cmd)} hangs")
        if not is_alike:
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
