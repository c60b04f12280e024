#!/usr/bin/env python3
"""Asks imgconv and the genuine qemu-img 10.0.2 the same questions about the same images.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/differential.py --imgconv build/imgconv [--keep]

Images of every kind are made by the genuine tools; then info, map, measure, check, compare and
create are run by both programs in the same folder (ours through a link named qemu-img). stdout and
the exit status must be equal, byte for byte. stderr too, except where Debian's build of 10.0.2
changed upstream's usage texts: those questions are left to the transcripts in cases/. Exit status 77:
the genuine tool is not there.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile

from differential_images import make_images

INFO = [["info"], ["info", "--output=json"], ["info", "--backing-chain"],
        ["info", "--backing-chain", "--output=json"], ["info", "-U"], ["info", "-f", "raw"]]
MAP = [["map"], ["map", "--output=json"], ["map", "--output=json", "--start-offset=70000"],
       ["map", "--output=json", "--start-offset=64k", "--max-length=200k"],
       ["map", "--output=json", "--max-length=0"]]
CHECK = [["check"], ["check", "--output=json"], ["check", "-q"]]
MEASURE = [["measure"], ["measure", "-O", "qcow2"], ["measure", "--output=json", "-O", "qcow2"],
           ["measure", "-O", "qcow2", "-o", "cluster_size=4k"],
           ["measure", "-O", "qcow2", "-o", "extended_l2=on"],
           ["measure", "-O", "qcow2", "-o", "compat=0.10"],
           ["measure", "-O", "qcow2", "-o", "preallocation=full"],
           ["measure", "-O", "qcow2", "-o", "refcount_bits=1,cluster_size=512"]]
CREATE_OPTIONS = [
    "", "cluster_size=4k", "cluster_size=2M", "cluster_size=1000", "cluster_size=4M",
    "compat=0.10", "compat=v3", "compat=9", "lazy_refcounts=on", "lazy_refcounts=maybe",
    "lazy_refcounts", "compat=0.10,lazy_refcounts=on", "refcount_bits=1", "refcount_bits=3",
    "refcount_bits=128", "refcount_bits=x", "compat=0.10,refcount_bits=8", "extended_l2=on",
    "extended_l2=on,cluster_size=4k", "compat=0.10,extended_l2=on", "compression_type=zstd",
    "compression_type=lz4", "compat=0.10,compression_type=zstd", "preallocation=metadata",
    "preallocation=falloc", "preallocation=full", "preallocation=foo", "foo=bar", "size=2M",
    "data_file=data.raw", "data_file=data.raw,data_file_raw=on", "data_file_raw=on",
    "backing_file=base,,with,,commas.qcow2,backing_fmt=qcow2", "backing_file=base.qcow2",
    "backing_file=nothere.qcow2,backing_fmt=qcow2", "backing_file=base.qcow2,backing_fmt=nope",
    "backing_file=base.qcow2,backing_fmt=qcow2,preallocation=metadata",
    "backing_file=base.qcow2,backing_fmt=raw", "help", "cluster_size=64k,cluster_size=128k",
    "nocow=on", "encryption=maybe", "extent_size_hint=1M,nocow=yes", "extent_size_hint=x",
]
CONVERT_OPTIONS = [
    "bogus=1", "cluster_size=1000", "lazy_refcounts=maybe", "cluster_size=x", "compat=9", "nocow=on",
    "refcount_bits=3", "preallocation=foo", "size=1", ",", "a,,", "backing_file=nope",
    "backing_file=nope,backing_fmt=qcow2", "backing_file=", "data_file=/nodir/x",
    "backing_file=base.qcow2,backing_fmt=nope", "extent_size_hint=2M",
]


class Comparison:
    """Counts questions and prints answers that differ."""

    def __init__(self, ours, genuine):
        self.tools = (ours, genuine)
        self.questions = 0
        self.differences = 0

    def ask(self, words, prepare=None):
        answers = []
        for tool in self.tools:
            if prepare:
                prepare()
            result = subprocess.run([tool, *words], capture_output=True, check=False,
                                    env=dict(os.environ, LC_ALL="C", TZ="UTC"), timeout=60)
            answers.append((result.returncode, result.stdout, result.stderr))
        self.questions += 1
        if answers[0] == answers[1]:
            return
        self.differences += 1
        print("qemu-img " + " ".join(words))
        for part, mine, theirs in zip(("exit status", "stdout", "stderr"), *answers):
            if mine != theirs:
                print(f"  {part}\n    ours:    {mine!r:.3000}\n    genuine: {theirs!r:.3000}")


def question_images(comparison, names):
    for name in names:
        for command in INFO + MAP + CHECK + MEASURE:
            comparison.ask([*command, name])


def question_pairs(comparison, names):
    first = names[0]
    for name in names:
        for command in (["compare"], ["compare", "-s"], ["compare", "-q"]):
            comparison.ask([*command, first, name])
            comparison.ask([*command, name, name])


def question_names(comparison):
    """Names that are no plain paths."""
    for name in ("file:base.qcow2", "file:with:colon.qcow2", "with:colon.qcow2", "nope:base.qcow2", ".", "nothere", "",
                 "file:no:where", "file:d/no:where",
                 'json:{"driver":"file","filename":"base.qcow2"}',
                 'json:{"driver":"file","filename":"nothere"}',
                 'json:{"driver":"raw","offset":"1k","size":65536,"file.filename":"base.qcow2"}',
                 'json:{"offset":0,"file.filename":"odd.raw"}', 'json:{"offset":1.024e3,"file.filename":"disk.raw"}',
                 'json:{"driver":"raw","offset":1.5,"file.filename":"odd.raw"}',
                 'json:{"driver":"raw","offset":null,"file.filename":"odd.raw"}',
                 'json:{"driver":"qcow2","file":{"driver":"file","filename":"top.qcow2"}}',
                 'json:{"driver":"qcow2","file.filename":"base.qcow2"}',
                 'json:{"driver":"raw","offset":65536,"file":{"driver":"file","filename":"base.qcow2"}}',
                 'json:{"driver":"raw","size":65536,"file.filename":"base.qcow2"}',
                 'json:{"file":{"driver":"file","filename":"base.qcow2"}}',
                 'json:{"driver":"qcow2","bogus":1,"file.filename":"base.qcow2"}',
                 'json:{', 'json:[]', 'json:{"driver":"qcow2"}', 'json:{"driver":"nope","file.filename":"x"}'):
        for command in (["info"], ["info", "--output=json"], ["map", "--output=json"], ["check"]):
            comparison.ask([*command, name])
    for name in ("driver=qcow2,file.filename=base.qcow2", "driver=raw,offset=512,file.filename=base.qcow2",
                 "file.filename=base.qcow2", "driver=qcow2,bogus=1,file.filename=base.qcow2", "driver=qcow2",
                 "base.qcow2", "size=1M", "driver=file,filename=base.qcow2",
                 "driver=raw,offset=1k,size=64k,file.filename=base.qcow2"):
        for command in (["info"], ["info", "--output=json"], ["map", "--output=json"]):
            comparison.ask([*command, "--image-opts", name])


def question_create(comparison):
    def remove():
        for name in ("new.qcow2", "new.raw", "data.raw"):
            if os.path.exists(name):
                os.unlink(name)

    for options in CREATE_OPTIONS:
        for size in (["1M"], []):
            comparison.ask(["create", "-f", "qcow2", *(["-o", options] if options else []),
                            "new.qcow2", *size], remove)
    for size in ("0", "1", "511", "513", "1.5k", "0x1000", "8T", " 1M"):
        comparison.ask(["create", "-f", "qcow2", "new.qcow2", size], remove)
        comparison.ask(["create", "-f", "raw", "new.raw", size], remove)
    for words in (["-b", "base.qcow2"], ["-b", "base.qcow2", "-F", "qcow2"], ["-b", "", "-F", "qcow2"],
                  ["-b", "new.qcow2", "-F", "qcow2"], ["-u", "-b", "nothere", "-F", "qcow2"],
                  ["-b", "base.qcow2", "-F", "qcow2", "-o", "cluster_size=1M"], ["-F", "qcow2"]):
        for size in ([], ["2M"]):
            comparison.ask(["create", "-f", "qcow2", *words, "new.qcow2", *size], remove)
    for options in ("preallocation=full", "preallocation=falloc", "preallocation=metadata",
                    "nocow=off", "cluster_size=4k", "size=1M",
                    "extent_size_hint=1M,preallocation=off,nocow=yes"):
        comparison.ask(["create", "-f", "raw", "-o", options, "new.raw", "64k"], remove)
    for words in (["-f", "nope"], ["-f", "raw", "-b", "base.qcow2", "-F", "qcow2"]):
        comparison.ask(["create", *words, "new.raw", "1M"], remove)
    for size in ("9223372036854775807", "9223372036854775296", "7E"):
        comparison.ask(["create", "-f", "raw", "new.raw", size], remove)
    comparison.ask(["create", "-f", "qcow2", "-b", "file:with:colon.qcow2", "-F", "qcow2", "new.qcow2"],
                   remove)
    for form in ("raw", "qcow2"):
        comparison.ask(["create", "-f", form, "-o", "help", "new.raw"], remove)
    comparison.ask(["create", "-q", "-f", "qcow2", "/nothere/new.qcow2", "1M"], remove)
    remove()


def question_convert(comparison):
    """What is said of wrong options and names; the copies themselves are compared elsewhere."""
    def remove():
        for name in ("new.qcow2", "new.raw"):
            if os.path.exists(name):
                os.unlink(name)

    for options in CONVERT_OPTIONS:
        comparison.ask(["convert", "-O", "qcow2", "-o", options, "odd-hole.raw", "new.qcow2"], remove)
    for words in (["-O", "raw", "-o", "preallocation=metadata"], ["-O", "raw", "-o", "preallocation=foo"],
                  ["-O", "raw", "-o", "bogus=1"], ["-O", "raw", "-F", "qcow2"], ["-O", "nope"],
                  ["-O", "raw", "-B", "base.qcow2", "-F", "qcow2"], ["-O", "raw", "-c"]):
        comparison.ask(["convert", *words, "odd-hole.raw", "new.raw"], remove)
    for words in (["-B", "nope", "-F", "qcow2"], ["-B", "base.qcow2", "-F", "nope"], ["-B", "base.qcow2"]):
        comparison.ask(["convert", "-O", "qcow2", *words, "odd-hole.raw", "new.qcow2"], remove)
    for target in ("foo:bar", "/nodir/bar", "file:/nodir/a:b"):
        comparison.ask(["convert", "-O", "qcow2", "odd-hole.raw", target])
    remove()


def question_progress(comparison):
    """-p of images that have nothing to read: how data is cut into steps is the tool's own affair."""
    for words in (["hole.raw", "hole.raw"], ["hole.raw", "empty.raw"], ["empty.qcow2", "hole.raw"],
                  ["empty.raw", "empty.raw"], ["-q", "hole.raw", "empty.raw"],
                  ["-s", "hole.raw", "empty.raw"]):
        comparison.ask(["compare", "-p", *words])


def question_measure_sizes(comparison):
    for size in ("0", "1", "512", "1M", "1G", "64G", "1T", "8E"):
        for options in ("", "cluster_size=512", "cluster_size=2M", "extended_l2=on", "refcount_bits=64",
                        "preallocation=metadata", "preallocation=full", "compat=0.10", "foo=1"):
            comparison.ask(["measure", "-O", "qcow2", *(["-o", options] if options else []),
                            "--output=json", "--size", size])
        comparison.ask(["measure", "--size", size])
    for size in ("9223372036854775807", "9223372036854775296", "7E"):
        for form in ("raw", "qcow2"):
            comparison.ask(["measure", "-O", form, "--size", size])
    for options in ("preallocation=foo", "size=5M", "nocow=on,extent_size_hint=1M"):
        comparison.ask(["measure", "-O", "raw", "-o", options, "--size", "1M"])
    comparison.ask(["measure", "-l", "s1", "snapshots.qcow2"])
    comparison.ask(["measure", "-l", "nope", "snapshots.qcow2"])
    comparison.ask(["measure", "-O", "nope", "--size", "1M"])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
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
        images = os.path.join(folder, "images")
        os.mkdir(images)
        os.chdir(images)
        names = make_images(genuine)
        comparison = Comparison(link, genuine)
        question_images(comparison, names)
        question_pairs(comparison, names)
        question_names(comparison)
        question_create(comparison)
        question_convert(comparison)
        question_progress(comparison)
        question_measure_sizes(comparison)
    finally:
        os.chdir("/")
        if arguments.keep:
            print(f"images: {folder}")
        else:
            shutil.rmtree(folder)
    print(f"{len(names)} images, {comparison.questions} questions, "
          f"{comparison.differences} answered differently")
    sys.exit(1 if comparison.differences else 0)


if __name__ == "__main__":
    main()
