#!/usr/bin/env python3
"""Times imgconv against qemu-img on the corpus: paired, alternating runs, medians, ratios.

    tests/bench/convert_bench.py --imgconv build/imgconv --qemu-img PATH [--corpus DIR]
        [--target DIR] [--runs 7] [--only NAME ...] [--verify]

Each case runs imgconv and every form of the rival in turn, `--runs` times, so that a slow minute of
the machine hits all of them. The rival is the fastest of its forms. Reported: median wall time, CPU
(user + system) and peak memory of each, the ratio of the medians and the quartiles of the paired
ratios. Sources are read once before the first run, so they are in the page cache.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

# name, arguments after `convert`, source; rivals get each list of RIVAL_FLAGS in front.
CASES = [
    ("cloud.qcow2 -> raw", ["-O", "raw"], "cloud.qcow2"),
    ("cloud.raw -> raw", ["-f", "raw", "-O", "raw"], "cloud.raw"),
    ("cloud.raw -> qcow2", ["-f", "raw", "-O", "qcow2"], "cloud.raw"),
    ("cloud.qcow2 -> qcow2", ["-O", "qcow2"], "cloud.qcow2"),
    ("cloud-zlib.qcow2 -> raw", ["-O", "raw"], "cloud-zlib.qcow2"),
    ("cloud-zstd.qcow2 -> raw", ["-O", "raw"], "cloud-zstd.qcow2"),
    ("cloud.raw -> qcow2 -c", ["-f", "raw", "-O", "qcow2", "-c"], "cloud.raw"),
    ("cloud.raw -> qcow2 -c zstd",
     ["-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"], "cloud.raw"),
    ("chain3.qcow2 -> raw", ["-O", "raw"], "chain3.qcow2"),
    ("frag.qcow2 -> raw", ["-O", "raw"], "frag.qcow2"),
    ("mini-512.qcow2 -> raw", ["-O", "raw"], "mini-512.qcow2"),
    ("sparse1t.qcow2 -> raw", ["-O", "raw"], "sparse1t.qcow2"),
    ("sparse1t.qcow2 -> qcow2", ["-O", "qcow2"], "sparse1t.qcow2"),
    ("small.qcow2 -> raw", ["-O", "raw"], "small.qcow2"),
]
RIVAL_FLAGS = [[], ["-W", "-m", "16"]]


def run_once(command):
    """Wall seconds, CPU seconds and peak KiB of one run, which must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"exit status {process.returncode}: {' '.join(command)}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def read_through(path):
    """Brings a file into the page cache without reading its holes."""
    with open(path, "rb", buffering=0) as file:
        position, end = 0, os.fstat(file.fileno()).st_size
        while position < end:
            try:
                position = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                return
            file.seek(position)
            if not file.read(1 << 20):
                return
            position += 1 << 20


def bench(arguments, name, flags, source):
    source = os.path.join(arguments.corpus, source)
    read_through(source)
    ours_target = os.path.join(arguments.target, "imgconv-bench.ours")
    rival_target = os.path.join(arguments.target, "imgconv-bench.rival")
    commands = {"ours": [arguments.imgconv, "convert", *flags, source, ours_target]}
    for extra in RIVAL_FLAGS:
        label = "rival " + (" ".join(extra) or "default")
        commands[label] = [arguments.qemu_img, "convert", *extra, *flags, source, rival_target]
    samples = {label: [] for label in commands}
    for _ in range(arguments.runs):
        for label, command in commands.items():
            target = command[-1]
            if os.path.exists(target):
                os.unlink(target)
            samples[label].append(run_once(command))
    if arguments.verify:
        compared = subprocess.run(
            [arguments.qemu_img, "compare", "-q", source, ours_target], check=False)
        if compared.returncode != 0:
            sys.exit(f"{name}: the result differs from its source")
    sizes = [os.stat(path).st_blocks * 512 for path in (ours_target, rival_target)]
    for path in (ours_target, rival_target):
        os.unlink(path)

    def median(label, column):
        return statistics.median(sample[column] for sample in samples[label])

    rival = min((label for label in samples if label != "ours"), key=lambda l: median(l, 0))
    paired = [a[0] / b[0] for a, b in zip(samples["ours"], samples[rival])]
    low, _, high = statistics.quantiles(paired, n=4) if len(paired) > 1 else (paired[0],) * 3
    print(f"| {name} | {median('ours', 0) * 1000:.0f} | {median(rival, 0) * 1000:.0f} "
          f"({rival.removeprefix('rival ')}) | **{median('ours', 0) / median(rival, 0):.2f}** "
          f"({low:.2f}-{high:.2f}) | {median('ours', 0) / median('rival default', 0):.2f} "
          f"| {median('ours', 1) / median(rival, 1):.2f} "
          f"| {median('ours', 2) / 1024:.1f} / {median(rival, 2) / 1024:.1f} "
          f"| {sizes[0] / sizes[1] if sizes[1] else 1:.3f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--qemu-img", required=True)
    parser.add_argument("--corpus", default="/dev/shm/imgconv-corpus")
    parser.add_argument("--target", default="/dev/shm")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", nargs="*", help="parts of case names")
    parser.add_argument("--verify", action="store_true", help="qemu-img compare each result")
    arguments = parser.parse_args()

    version = subprocess.run([arguments.qemu_img, "--version"], capture_output=True, text=True,
                             check=True).stdout.splitlines()[0]
    print(f"{version}, {os.cpu_count()} cores, kernel {os.uname().release}, "
          f"{arguments.runs} runs, target {arguments.target}\n")
    print("| work | imgconv ms | best rival ms | wall ratio (quartiles) | against its default "
          "| CPU ratio | peak MiB | size ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for name, flags, source in CASES:
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        if not os.path.exists(os.path.join(arguments.corpus, source)):
            print(f"| {name} | no {source} in the corpus |")
            continue
        bench(arguments, name, flags, source)


if __name__ == "__main__":
    main()
