#!/usr/bin/env python3
"""Every image of images/: right bytes, and the same JSON as the genuine tool.

    tests/cli/reference_images.py --imgconv build/imgconv [--images images]

For each line of the manifest: the file is the one that was described (sha256); converted to raw,
the guest's bytes have the manifest's sha256. With qemu-img 10.0.2
($IMGCONV_QEMU_IMG10), `info`, `map`, `measure` and `check` with --output=json, and the first three in
their human form, give the same text byte for byte, and the same exit status. No field is excepted:
both tools look at the same file.
"""
import argparse
import hashlib
import os
import subprocess
import sys
import tempfile

QUESTIONS = [
    ["info", "--output=json"], ["info", "--output=json", "--backing-chain"], ["info"],
    ["map", "--output=json"], ["map"],
    ["measure", "--output=json", "-O", "qcow2"], ["measure", "--output=json", "-O", "raw"],
    ["measure", "--output=json", "-O", "qcow2", "-o", "cluster_size=4k"], ["measure", "-O", "qcow2"],
    ["check", "--output=json"], ["check"],
]


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--images", default=os.path.join(os.path.dirname(__file__), "../../images"))
    arguments = parser.parse_args()
    ours = os.path.abspath(arguments.imgconv)
    genuine = os.environ.get("IMGCONV_QEMU_IMG10")
    os.chdir(arguments.images)
    problems, questions = [], 0

    with open("MANIFEST.tsv", encoding="utf-8") as manifest:
        rows = [line.rstrip("\n").split("\t") for line in manifest]
    with tempfile.TemporaryDirectory() as folder:
        # The messages carry the program's name, so ours goes by the other's.
        link = os.path.join(folder, "qemu-img")
        os.symlink(ours, link)
        for name, file_sum, _, guest_sum, _, _ in rows:
            if sha256(name) != file_sum:
                problems.append(f"{name}: not the file that the manifest describes")
                continue
            form = "qcow2" if name.endswith(".qcow2") else "raw"
            target = os.path.join(folder, "guest.raw")
            converted = subprocess.run([link, "convert", "-f", form, "-O", "raw", name, target],
                                       capture_output=True, text=True, check=False)
            if converted.returncode != 0 or sha256(target) != guest_sum:
                problems.append(f"{name}: converted to other bytes: {converted.stderr}")
            if not genuine:
                continue
            for question in QUESTIONS:
                command = [*question, "-f", form, name] if question[0] != "info" else [*question, name]
                answers = [subprocess.run([tool, *command], capture_output=True, check=False)
                           for tool in (link, genuine)]
                questions += 1
                for what in ("returncode", "stdout"):
                    mine, theirs = (getattr(answer, what) for answer in answers)
                    if mine != theirs:
                        problems.append(f"{' '.join(command)}: {what}\n  ours: {mine}\n  genuine: {theirs}")
    print(*problems, sep="\n")
    print(f"{len(rows)} images, {questions} answers compared, {len(problems)} problems")
    if problems:
        sys.exit(1)
    if not genuine:
        print("qemu-img 10.0.2 is not here: its texts were not compared")
        sys.exit(77)


if __name__ == "__main__":
    main()
