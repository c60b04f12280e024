#!/usr/bin/env python3
"""Runs random command lines with imgconv and the genuine qemu-img 10.0.2, and compares everything.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/command_lines.py --imgconv build/imgconv
                                         [--seed N] [--count N] [--first N] [--only COMMAND]
                                         [--line N ...] [--nodes SHARE]

Options, values, spellings, operands and their order are drawn from the grammar of CLI.md section 14
(command_grammar.py); a few are wrong on purpose. A share of the lines names its images by json:
names and option strings (command_nodes.py). Each line is run in two copies of a folder of small
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
import typing

import command_grammar

ENVIRONMENT = dict(os.environ, LC_ALL="C", TZ="UTC")
QCOW2_MAGIC = b"QFI\xfb"
# A larger file that holds an image, and where (command_nodes.py).
PART, PART_OFFSET = "part.bin", 4096


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
        # Steps of progress are those of one's own work.
        text = re.sub(r"(    \([0-9.]+/100%\)\r)+", "PROGRESS\r", text)
        return re.sub(r"in [0-9.]+ seconds", "in T seconds", text)


class Deliberate(typing.NamedTuple):
    """A difference that is meant. Patterns are looked for in stderr with stdout behind it."""
    reason: str
    theirs: str = ""
    ours: str = ""
    line: str = ""
    other_status: bool = False


DELIBERATE = [
    Deliberate("Debian's build has texts of its own for misuse; ours are upstream's (CLI.md 1.1)",
               r"^Try '.* --help' for more info$|^qemu-img: .*: (unrecognized|option|ambiguous)", r"^qemu-img: "),
    Deliberate("help texts are our own", r"^Usage:", r"^Usage:|^usage:|--object OBJDEF"),
    Deliberate("Debian's build has texts of its own for numbers; ours are upstream's (CLI.md 1.2)",
               r"^qemu-img: Invalid .* specified(: '|\. Must be between 1 and 16)", r"^qemu-img: Invalid "),
    Deliberate("Debian's dd takes no suffixes in count and skip (CLI.md 9)",
               r"^qemu-img: Invalid (count|skip) specified: '", line=r"^dd ", other_status=True),
    Deliberate("'file' is a driver to open images with, not a format to create, to measure or to amend",
               ours=r"Unknown file format( 'file')?$|Format driver 'file' does not support",
               line=r"(-[fO]|format)[ =]?file\b", other_status=True),
    Deliberate("creation options are checked before the target is made",
               r"Could not create '.*': |Could not resize |Failed to get \"write\" lock|Copying bitmaps only"
               r"|Unknown protocol 'json'",
               r"^qemu-img: ",
               r"^(create|convert|dd) "),
    Deliberate("a message about bitmaps names the image, not a node",
               r"bitmaps? .*(in|to) '?(#block|n)\d+'?", r"bitmaps? .*(in|to) '?(\S+\.(raw|qcow2)'?|json:|\S+=)",
               r"^bitmap "),
    Deliberate("the original loads bitmaps when it repairs, and finds its own new ones leaked",
               r"^Repairing cluster \d+ refcount=1 reference=0$", line=r"^check "),
    Deliberate("dd of an image onto itself is refused; the original empties it",
               ours=r"Failed to get \"write\" lock", line=r"^dd .*if=(\S+) .*of=\1( |$)", other_status=True),
    Deliberate("convert -U of an image onto itself is refused; the original destroys it",
               ours=r"Failed to get \"write\" lock", line=r"^convert .*(-U|--force)", other_status=True),
    Deliberate("convert -U of an image onto itself is refused; the original destroys it",
               r"Lost persistent bitmaps during inactivation", line=r"^convert .*(-U|--force)"),
    Deliberate("an image that ends inside a block of its device can be written past the page cache",
               r"Cannot get 'write' permission without 'resize'", line=r"none|off|directsync|direct", other_status=True),
    Deliberate("all options are checked before anything is opened", ours=r"^qemu-img: Invalid cache option: ",
               line=r"^convert .*-t", other_status=True),
    Deliberate("all names are looked at before anything is opened", ours=r"^qemu-img: Unknown protocol 'json'",
               line=r"^(convert|dd) "),
    Deliberate("the original never ends when it reads the end of a file inside a sector by io_uring",
               line="io_uring", other_status=True),
    Deliberate("a snapshot is copied also where the description of the image says that it may be written",
               r"Device is not readonly", line=r" (-l|--snap)", other_status=True),
    Deliberate("what a command only reads is opened for reading, whatever its description allows",
               r"Failed to get .* lock|: in-use$|^WARNING: Image format was not specified", line=r"read-only.{1,10}(off|false)", other_status=True),
    Deliberate("detect-zeroes=unmap needs discard=unmap in every command: there is no guest whose zeros it means",
               ours=r"setting detect-zeroes to unmap is not allowed", line=r"^(commit|rebase|convert) ",
               other_status=True),
    Deliberate("a backing file that is a bare file takes the place of the one that the header names",
               r"Can't specify 'file' and 'filename' options", line="backing", other_status=True),
    Deliberate("-U does not mind a data file whose description says that it may be written",
               r"force-share=on can only be used with read-only images", line="data-file", other_status=True),
    Deliberate("options of a backing file's own file do not take its name from the header",
               ours=r"Could not open backing file: (The 'file' block driver requires|Must specify either)",
               line="backing", other_status=True),
    Deliberate("a backing chain never comes back to a file of its own", ours=r"creates an infinite loop",
               line="backing", other_status=True),
    Deliberate("a description of a data file is checked by commands that do not open it, too",
               ours=r"^qemu-img: Could not open ", line=r"^info .*data-file", other_status=True),
    Deliberate("--output is checked behind help that was asked for, as upstream does",
               r"^qemu-img: --output expects ", r"^Usage:", r" -h( |$)", True),
    Deliberate("'file' is raw under another name", r"Block format 'file' used|driver 'file' does not support bitmaps",
               r"Block format 'raw' used|driver 'raw' does not support bitmaps"),
    Deliberate("of several things that are wrong with a description of nodes, those that need no file are told first",
               r"^qemu-img: Could not open .*(json:|=)", r"^qemu-img: Could not open .*(json:|=)"),
    Deliberate("options of a backing file that the command does not open are no error",
               r"Block format '(qcow2|raw)' does not support the option 'backing[.']", other_status=True),
    Deliberate("a format beside --image-opts is refused before anything is opened",
               r"^qemu-img: ", r"^qemu-img: --image-opts and --format are mutually exclusive", "image-opts", True),
    Deliberate("sizes of caches are checked for their form alone, since there are none of the original's",
               r"(Refcount cache|L2 cache|L2 cache entry|Cache clean interval) (size )?(too big|must be)|"
               r"cache-size may not exceed|may not be set at the same time|Could not allocate metadata caches",
               other_status=True),
    Deliberate("lazy refcounts are never used, so that it does not matter that version 2 has none",
               r"Lazy refcounts require a qcow2 image|discard-no-unref is only supported since", other_status=True),
    Deliberate("a backing file named relative to an image with a json: name lies beside that image's file",
               r"Cannot use relative backing file names for 'json:", other_status=True),
    Deliberate("convert -n -c overwrites what an existing target holds (engine/README.md, E8)",
               r"^qemu-img: error while writing at byte \d+: ", line=r"^convert (?=.*-n)(?=.*-c)", other_status=True),
    Deliberate("what is refused exits with 1",
               r"^qemu-img: Cannot use --target-is-zero when the destination", r"^qemu-img: Cannot use --target-is-zero",
               r"^convert ", other_status=True),
]
# Below this overlay lies its own file, which shows how it is laid out.
OWN_FILE = re.compile(r"^rebase (?=.*o\.qcow2.*o\.qcow2)(?=.*(raw|file))")
OVER_ITSELF = "an overlay of its own file shows how that is laid out"
LEFT_ALONE = "what is refused leaves the target as it was"


def differs(genuine, ours):
    return (genuine.status, genuine.stdout, genuine.stderr) != (ours.status, ours.stdout, ours.stderr)


def deliberate(words, genuine, ours):
    """The reason why this difference is meant, or None."""
    told = [outcome.stderr + outcome.stdout for outcome in (genuine, ours)]
    line = command_grammar.quoted(words)
    for entry in DELIBERATE:
        if genuine.status != ours.status and not entry.other_status:
            continue
        if all(re.search(pattern, text, re.MULTILINE) for pattern, text in (
                (entry.theirs, told[0]), (entry.ours, told[1]), (entry.line, line))):
            return entry.reason
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
                "create -q -f qcow2 -u -b nothere -F raw lost.qcow2 64k",
                "create -q -f qcow2 -o cluster_size=4k,data_file=d.raw d.qcow2 256k",
                "convert -n -f raw -O qcow2 r.raw d.qcow2"):
            subprocess.run([qemu_img, *line.split()], cwd=self.folder, env=ENVIRONMENT, check=True)
        with open(os.path.join(self.folder, PART), "wb") as file:
            file.write(bytes(PART_OFFSET) + self.read(self.folder)["q.qcow2"] + bytes(1 << 16))
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
            if name == PART and content[:PART_OFFSET] == ours[name][:PART_OFFSET]:
                name = "cut.qcow2"
                for folder, files in ((genuine_folder, theirs), (our_folder, ours)):
                    with open(os.path.join(folder, name), "wb") as file:
                        file.write(files[PART][PART_OFFSET:])
                ours[name], content = ours[PART][PART_OFFSET:], content[PART_OFFSET:]
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
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--first", type=int, default=0, help="begin with this line of the seed's")
    parser.add_argument("--only")
    parser.add_argument("--nodes", type=float, default=0.25, metavar="SHARE",
                        help="of the lines, how many name images by their nodes (default 0.25)")
    parser.add_argument("--line", type=int, action="append", help="only the lines of these numbers")
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
        for number in range(arguments.first + arguments.count):
            words = command_grammar.line(rng, arguments.only, arguments.nodes)
            if number < arguments.first or (arguments.line and number not in arguments.line):
                continue
            if number % 1000 == 999:
                print(f"at line {number + 1}", file=sys.stderr, flush=True)
            for folder in folders:
                images.copy_to(folder)
            genuine, ours = (Outcome([program, *words], folder)
                             for program, folder in zip((qemu_img, link), folders))
            succeeded += genuine.status == 0
            if differs(genuine, ours):
                reason = deliberate(words, genuine, ours)
                problem = (f"genuine {genuine.status}\n{genuine.stdout}{genuine.stderr}"
                           f"ours {ours.status}\n{ours.stdout}{ours.stderr}")
            else:
                problem = images.compare(*folders)
                was_refused = genuine.status != 0 and images.read(folders[1]) == images.content
                reason = None
                if problem and was_refused:
                    reason = LEFT_ALONE
                elif problem and OWN_FILE.search(command_grammar.quoted(words)):
                    reason = OVER_ITSELF
            if reason:
                reasons[reason] += 1
            elif problem:
                failures += 1
                print(f"line {number}: {command_grammar.quoted(words)}\n{problem}", flush=True)
    for reason, times in reasons.most_common():
        print(f"{times} times: {reason}")
    print(f"seed {arguments.seed}: {arguments.count} lines, of which {succeeded} succeed; "
          f"{failures} differ")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
