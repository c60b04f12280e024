#!/usr/bin/env python3
"""The guard against creeping cost that no clock is needed for: instructions and system calls.

    tests/bench/guard.py --imgconv build/imgconv [--record]

Runs five conversions with one worker and one pool thread, under `valgrind --tool=callgrind` for the
instructions and under `strace -f -c` for the system calls, and compares both, per GiB of guest data
(per run where there is none), with tests/bench/guard.json. More than 5% above fails; more than 5%
below is told, so that the gain can be recorded with --record. Waking, memory and start-up calls are
left out of the system calls, since they depend on timing. Exit status 77 without the two tools, or
where the numbers mean nothing: recorded were a Release build by g++ 12 on x86-64 with AVX2, on ext4,
where more calls are needed than elsewhere (L14).
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

RECORD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guard.json")
TOLERANCE = 0.05
MIB, GIB = 1 << 20, 1 << 30
# What hands a job over, allocates, or starts the process.
TIMING = {"futex", "ppoll", "read", "write", "eventfd2", "clone3", "clone", "rseq", "mmap", "munmap",
          "mprotect", "madvise", "brk", "set_robust_list", "set_tid_address", "rt_sigprocmask",
          "rt_sigaction", "exit", "execve", "arch_prctl", "sched_yield", "restart_syscall",
          "prlimit64", "getrandom", "close", "access", "total"}


def make_disk(path, size):
    """Text and noise, with a hole in each MiB and another one inside the data."""
    rng = random.Random(1)
    with open(path, "wb") as disk:
        disk.truncate(size)
        for base in range(0, size, MIB):
            disk.seek(base)
            disk.write(b"".join(b"line %d of the disk\n" % rng.randrange(999) for _ in range(16000)))
            disk.seek(base + 512 * 1024)
            disk.write(rng.randbytes(128 * 1024) + bytes(64 * 1024) + rng.randbytes(64 * 1024))


def make_workloads(imgconv, folder):
    """name -> (arguments of convert, bytes that the numbers are divided by)."""
    def path(name):
        return os.path.join(folder, name)

    def convert(source, target, *options):
        subprocess.run([imgconv, "convert", "-f", "raw", "-O", "qcow2", "--no-sync", *options,
                        path(source), path(target)], check=True)
        return path(target)

    make_disk(path("64m.raw"), 64 * MIB)
    make_disk(path("8m.raw"), 8 * MIB)
    plain = convert("64m.raw", "plain.qcow2")
    deflated = convert("8m.raw", "zlib.qcow2", "-c")
    tiny = convert("8m.raw", "tiny.qcow2", "-o", "cluster_size=512")
    sparse = path("sparse.qcow2")
    subprocess.run([imgconv, "create", "-q", "-f", "qcow2", sparse, "64T"], check=True)
    return {
        "qcow2 -> raw": (["-O", "raw", plain], 64 * MIB / GIB),
        "raw -> qcow2": (["-f", "raw", "-O", "qcow2", path("64m.raw")], 64 * MIB / GIB),
        "qcow2 zlib -> raw": (["-O", "raw", deflated], 8 * MIB / GIB),
        "qcow2 with 512-byte clusters -> raw": (["-O", "raw", tiny], 8 * MIB / GIB),
        "empty qcow2 of 64 TiB -> qcow2": (["-O", "qcow2", sparse], 1),
    }


def command_of(imgconv, arguments, target):
    return [imgconv, "convert", "--no-sync", "--threads", "1", "-m", "1", *arguments, target]


def count_instructions(command, folder):
    log = os.path.join(folder, "callgrind.log")
    subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                    f"--log-file={log}", *command], check=True)
    with open(log) as file:
        return int(re.search(r"Collected : (\d+)", file.read()).group(1))


def count_system_calls(command, folder):
    log = os.path.join(folder, "strace.log")
    subprocess.run(["strace", "-f", "-c", "-o", log, *command], check=True)
    total = 0
    with open(log) as file:
        for line in file:
            # % time, seconds, usecs/call, calls, perhaps errors, name.
            fields = line.split()
            if len(fields) >= 5 and fields[3].isdigit() and fields[-1] not in TIMING:
                total += int(fields[3])
    return total


def measure(imgconv):
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "target")
        for name, (arguments, divisor) in make_workloads(imgconv, folder).items():
            command = command_of(imgconv, arguments, target)
            found[name] = {}
            for unit, count in (("instructions", count_instructions),
                                ("system calls", count_system_calls)):
                found[name][unit] = round(count(command, folder) / divisor)
                os.unlink(target)
    return found


def skip(reason):
    print(f"{reason}: skipped")
    sys.exit(77)


def check_surroundings(imgconv, folder):
    for tool in ("valgrind", "strace"):
        if shutil.which(tool) is None:
            skip(f"no {tool}")
    with open("/proc/cpuinfo") as file:
        if " avx2 " not in file.read():
            skip("no AVX2")
    # A container may forbid to trace.
    log = os.path.join(folder, "log")
    for tool in (["strace", "-o", log], ["valgrind", "-q", f"--log-file={log}"]):
        if subprocess.run([*tool, imgconv, "--version"], capture_output=True, check=False).returncode:
            skip(f"{tool[0]} cannot run here")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        check_surroundings(arguments.imgconv, folder)
    found = measure(arguments.imgconv)
    if arguments.record:
        with open(RECORD, "w") as file:
            json.dump(found, file, indent=2)
            file.write("\n")
        return 0
    with open(RECORD) as file:
        recorded = json.load(file)
    failures = 0
    for name, units in found.items():
        for unit, count in units.items():
            ratio = count / recorded[name][unit]
            grew = ratio > 1 + TOLERANCE
            failures += grew
            note = "GREW" if grew else "fell: record it" if ratio < 1 - TOLERANCE else "ok"
            print(f"{name}: {count} {unit}, {ratio:.3f} of what is recorded: {note}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
