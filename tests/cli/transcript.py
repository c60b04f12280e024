#!/usr/bin/env python3
"""Replays a transcript and compares what the program says with what stands there.

    tests/cli/transcript.py --program build/imgconv [--name qemu-img] [--emulator CMD] CASE.txt

A case is text: lines that begin with '$ ' are shell commands, what follows is their output (stdout
and stderr together) and, unless it is 0, '[N]' for the exit status. '#' begins a comment outside of
outputs, that is, in front of the first command. The commands run one after the other in one empty
folder. PROG stands for the program, in commands and outputs; --name is what it is called by. A
program for another machine needs an emulator of qemu-user.

A case with headings shows what stands in a section of CLI.md: '## 1.2-3 TEXT' is the third sample of
section 1.2, and the numbers of a section have no gaps. A sample without commands names the test
that shows it. Where a line of the case begins with '2> ', the streams are apart: that is one of
stderr, and stands behind stdout's.
"""
import argparse
import difflib
import os
import re
import shlex
import subprocess
import sys
import tempfile


class Case:
    """`steps`: [(heading, command, expected output lines)]"""

    def __init__(self, path):
        self.steps, headings, output = [], [""], None
        with open(path, encoding="utf-8", errors="surrogateescape") as case:
            for line in case:
                if line.startswith("## "):
                    headings.append(line[3:].rstrip("\n"))
                    output = None
                elif line.startswith("$ "):
                    output = []
                    self.steps.append((headings[-1], line[2:].rstrip("\n"), output))
                elif output is not None:
                    output.append(line)
                elif line.strip() and not line.startswith("#"):
                    sys.exit(f"{path}: output before the first command: {line}")
        self.has_streams = any(line.startswith("2> ") for step in self.steps for line in step[2])
        last = {}
        for heading in headings[1:]:
            section, number = re.match(r"([0-9.]+)-([0-9]+) ", heading).groups()
            if int(number) != last.get(section, 0) + 1:
                sys.exit(f"{path}: sample {section}-{last.get(section, 0) + 1} is missing")
            last[section] = int(number)


def install(program, name, emulator, folder):
    path = os.path.join(folder, name)
    if not emulator:
        os.symlink(program, path)
        return
    with open(path, "w", encoding="utf-8") as script:
        script.write(f'#!/bin/sh\nexec {emulator} -0 "$0" {shlex.quote(program)} "$@"\n')
    os.chmod(path, 0o755)


def lines_of(stream, mark=""):
    lines = stream.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    return [mark + line for line in lines]


def replay(case, program, name, emulator, folder):
    bin_folder, work_folder = (os.path.join(folder, part) for part in ("bin", "work"))
    os.mkdir(bin_folder)
    os.mkdir(work_folder)
    install(os.path.abspath(program), name, emulator, bin_folder)
    environment = dict(os.environ, LC_ALL="C", TZ="UTC",
                       PATH=f"{bin_folder}:{os.environ['PATH']}")
    for heading, command, expected in case.steps:
        result = subprocess.run(["sh", "-c", command.replace("PROG", name)], cwd=work_folder,
                                env=environment, stdout=subprocess.PIPE, check=False,
                                stderr=subprocess.PIPE if case.has_streams else subprocess.STDOUT)
        actual = lines_of(result.stdout) + lines_of(result.stderr or b"", "2> ")
        if result.returncode != 0:
            actual.append(f"[{result.returncode}]\n")
        expected = [line.replace("PROG", name) for line in expected]
        difference = list(difflib.unified_diff(expected, actual, "expected", "actual", n=2))
        yield f"{heading}\n$ {command}".strip(), difference


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--name", default="imgconv")
    parser.add_argument("--emulator")
    parser.add_argument("case")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(errors="surrogateescape")
    case = Case(arguments.case)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for step, difference in replay(case, arguments.program, arguments.name,
                                       arguments.emulator, folder):
            if difference:
                failures += 1
                print(step)
                sys.stdout.writelines(difference)
    print(f"{len(case.steps)} commands, {failures} with other output than expected")
    sys.exit(1 if failures or not case.steps else 0)


if __name__ == "__main__":
    main()
