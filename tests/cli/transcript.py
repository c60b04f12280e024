#!/usr/bin/env python3
"""Replays a transcript and compares what the program says with what stands there.

    tests/cli/transcript.py --program build/imgconv [--name qemu-img] [--emulator CMD] CASE.txt

A case is text: lines that begin with '$ ' are shell commands, what follows is their output (stdout
and stderr together) and, unless it is 0, '[N]' for the exit status. '#' begins a comment outside of
outputs, that is, in front of the first command. The commands run one after the other in one empty
folder. PROG stands for the program, in commands and outputs; --name is what it is called by. A
program for another machine needs an emulator of qemu-user.
"""
import argparse
import difflib
import os
import shlex
import subprocess
import sys
import tempfile


def parse(path):
    """[(command, expected output lines)]"""
    steps = []
    with open(path, encoding="utf-8") as case:
        for line in case:
            if line.startswith("$ "):
                steps.append((line[2:].rstrip("\n"), []))
            elif steps:
                steps[-1][1].append(line)
            elif line.strip() and not line.startswith("#"):
                sys.exit(f"{path}: output before the first command: {line}")
    return steps


def install(program, name, emulator, folder):
    path = os.path.join(folder, name)
    if not emulator:
        os.symlink(program, path)
        return
    with open(path, "w", encoding="utf-8") as script:
        script.write(f'#!/bin/sh\nexec {emulator} -0 "$0" {shlex.quote(program)} "$@"\n')
    os.chmod(path, 0o755)


def replay(steps, program, name, emulator, folder):
    bin_folder, work_folder = (os.path.join(folder, part) for part in ("bin", "work"))
    os.mkdir(bin_folder)
    os.mkdir(work_folder)
    install(os.path.abspath(program), name, emulator, bin_folder)
    environment = dict(os.environ, LC_ALL="C", TZ="UTC",
                       PATH=f"{bin_folder}:{os.environ['PATH']}")
    for command, expected in steps:
        result = subprocess.run(["sh", "-c", command.replace("PROG", name)], cwd=work_folder,
                                env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                check=False)
        actual = result.stdout.decode("utf-8", "surrogateescape").splitlines(keepends=True)
        if actual and not actual[-1].endswith("\n"):
            actual[-1] += "\n"
        if result.returncode != 0:
            actual.append(f"[{result.returncode}]\n")
        expected = [line.replace("PROG", name) for line in expected]
        yield command, list(difflib.unified_diff(expected, actual, "expected", "actual", n=2))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--name", default="imgconv")
    parser.add_argument("--emulator")
    parser.add_argument("case")
    arguments = parser.parse_args()
    steps = parse(arguments.case)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for command, difference in replay(steps, arguments.program, arguments.name,
                                          arguments.emulator, folder):
            if difference:
                failures += 1
                print(f"$ {command}")
                sys.stdout.writelines(difference)
    print(f"{len(steps)} commands, {failures} with other output than expected")
    sys.exit(1 if failures or not steps else 0)


if __name__ == "__main__":
    main()
