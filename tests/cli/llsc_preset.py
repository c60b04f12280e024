#!/usr/bin/env python3
"""The preset aarch64 compiles the history with exclusive loads and stores, as the binaries of the
reporters were; LSE atomics, inline or behind libgcc's calls, would not have LP#1805256 at all.

    tests/cli/llsc_preset.py --source .

Exit status 77: no cross compiler here.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

COMPILER, OBJDUMP = "aarch64-linux-gnu-g++", "aarch64-linux-gnu-objdump"
# Arm ARM, C3.2.12 and C3.2.13: compare and swap, swap, atomic memory operations.
LSE = re.compile(r"\t((?:cas|casp|swp|(?:ld|st)(?:add|clr|eor|set|smax|smin|umax|umin))"
                 r"(?:a|l|al)?[bh]?)\t")
EXCLUSIVE = re.compile(r"\t(ldaxr|stlxr|ldxr|stxr)\t")


def disassemble(source, folder, flags):
    program = os.path.join(folder, "history.o")
    subprocess.run([COMPILER, "-std=c++20", "-O2", *flags, "-I", source, "-isystem", folder, "-c",
                    os.path.join(source, "loop/history/loop_protocol.cc"), "-o", program],
                   check=True)
    return subprocess.run([OBJDUMP, "-dr", program], check=True, capture_output=True,
                          text=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True)
    source = os.path.abspath(parser.parse_args().source)
    if not shutil.which(COMPILER) or not shutil.which(OBJDUMP):
        print(f"skipped: no {COMPILER} here")
        return 77
    with open(os.path.join(source, "CMakePresets.json"), encoding="utf-8") as file:
        presets = json.load(file)["configurePresets"]
    preset = next(preset for preset in presets if preset["name"] == "aarch64")
    flags = preset["cacheVariables"]["CMAKE_CXX_FLAGS"].split()
    with tempfile.TemporaryDirectory() as folder:
        # Headers without code for a machine; the compiler does not look at this machine's.
        for library in ("fmt", "tl"):
            os.symlink(os.path.join("/usr/include", library), os.path.join(folder, library))
        code = disassemble(source, folder, flags)
        with_lse = disassemble(source, folder, ["-march=armv8.1-a"])
        outlined = disassemble(source, folder, ["-moutline-atomics"])
    used = set(EXCLUSIVE.findall(code))
    assert {"ldaxr", "stlxr"} <= used, used
    assert not LSE.search(code), LSE.search(code)
    assert "__aarch64_" not in code, "atomics are calls into libgcc, which may take LSE"
    # What is looked for would be found.
    assert LSE.search(with_lse) and "__aarch64_" in outlined
    print(f"llsc_preset: {len(EXCLUSIVE.findall(code))} exclusive accesses, no other atomics")
    return 0


if __name__ == "__main__":
    sys.exit(main())
