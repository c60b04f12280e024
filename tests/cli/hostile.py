#!/usr/bin/env python3
"""Every command on every image of hostile_images.py, with and without --untrusted.

    tests/cli/hostile.py --imgconv build/imgconv [--all] [--only NAME] [--shard I/N]
                         [--record FILE]
    IMGCONV_QEMU_IMG10=... tests/cli/hostile.py --imgconv build/imgconv --compare

Each run ends with the exit status of hostile.expected, takes bounded processor time (5 seconds, for
machines slower than most; --all --seconds 1 is the promise, and for a quiet machine) and less than
64 MiB, says why it failed, and is not ended by a signal. With --untrusted it opens no file
but the ones on its command line (strace). Without --all: each command once for each image, with
--untrusted every other time, and strace for images that name others. --record writes a new
hostile.expected, for review; --compare lists where the genuine tool's verdict (succeeds or fails)
differs without reason: hostile.py names those that are meant.
"""
import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile

from hostile_images import IMAGES

EXPECTED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hostile.expected")
MAX_MEMORY = 64 << 20
COMMANDS = {
    "info": ["info", "-f", "qcow2", "image.qcow2"],
    "check": ["check", "-f", "qcow2", "image.qcow2"],
    "map": ["map", "-f", "qcow2", "--output=json", "image.qcow2"],
    "measure": ["measure", "-O", "qcow2", "-f", "qcow2", "image.qcow2"],
    "compare": ["compare", "-f", "qcow2", "-F", "qcow2", "image.qcow2", "sound.qcow2"],
    "convert": ["convert", "--no-sync", "-f", "qcow2", "-O", "raw", "image.qcow2", "out"],
}
OPENED = re.compile(r'open(?:at)?\([^"]*"([^"]*)".*\) = \d')
SYSTEM = ("/lib/", "/lib64/", "/usr/lib/", "/etc/ld.so", "/proc/self/", "/sys/", "/dev/null",
          "/etc/localtime")
# What these cost is asked for by an image that is whole: it ends when the limits say so.
ONLY_UNTRUSTED = ("one_l2_table_for_all", "one_data_cluster_for_all", "zero_and_not_by_turns",
                  "compressed_bomb", "file_of_eight_terabytes", "size_3", "l1_size_3",
                  "snapshots_that_share_a_table", "refcount_blocks_that_are_one",
                  "cve_2015_5162_virtual_size", "cve_2015_5162_l1_of_32_mebibytes")
# Seconds and bytes for what is bounded by us, and not by the format: it would take hours.
DEARER = {("snapshots_that_share_a_table", "check"): (10, 128 << 20)}
NAMES_OTHERS = ("backing", "data_file", "cve_2008", "cve_2015_5163", "cve_2022", "cve_2024")
# Where our verdict is not that of the genuine tool, on purpose: image, commands, whether we succeed,
# reason.
MEANT = (
    ("backing_loop|backing_probed_to_itself", "check|map|measure|compare|convert", False,
     "the genuine tool opens the loop again and again"),
    ("bitmap_name_0", "info|map|measure|compare", False, "a bitmap has a name"),
    ("bitmap_(offset|entry)", ".*", True, "an image whose bitmaps' tables are damaged can be read"),
    ("crypt_|crypto_header_", "info", True, "what is encrypted is described without looking into it"),
    (".*", "convert", False, "what the file is too short for is an error (engine/README.md, E11)"),
)


class Runner:
    def __init__(self, program, seconds):
        self.program = program
        self.seconds = seconds
        self.is_instrumented = "asan" in program
        self.runs = 0

    def run(self, words, seconds=None, memory=MAX_MEMORY):
        """Exit status and what was wrong with the run."""
        self.runs += 1
        with open("said", "wb") as said, open("/dev/null", "wb") as nothing:
            process = subprocess.Popen([self.program, *words], stdout=nothing, stderr=said)
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (60, 60))
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        with open("said", encoding="utf-8", errors="replace") as said:
            text = said.read(65536)
        problems = []
        if process.returncode < 0:
            problems.append(f"ended by signal {-process.returncode}")
        if "Sanitizer" in text or "runtime error" in text:
            problems.append(text)
        if process.returncode == 1 and words[0] not in ("check", "compare") and not text:
            problems.append("failed without a word")
        if not self.is_instrumented:
            if usage.ru_utime + usage.ru_stime > (seconds or self.seconds):
                problems.append(f"took {usage.ru_utime + usage.ru_stime:.1f} s")
            if usage.ru_maxrss * 1024 > memory:
                problems.append(f"took {usage.ru_maxrss >> 10} MiB")
        return process.returncode, problems

    def opened(self, words):
        """Files that it opens beside those of the system and of its command line."""
        subprocess.run(["strace", "-f", "-o", "trace", "-e", "trace=open,openat,execve", self.program,
                        *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        with open("trace", encoding="utf-8", errors="replace") as trace:
            names = [match.group(1) for line in trace for match in [OPENED.search(line)] if match]
        return sorted({name for name in names
                       if not name.startswith(SYSTEM) and name not in words and name != "."})


def can_trace():
    return bool(shutil.which("strace")) and not subprocess.run(
        ["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode


def words_of(command, name):
    """The command line, by the format that the image is said to have."""
    if not name.endswith("_as_raw"):
        return COMMANDS[command]
    words = list(COMMANDS[command])
    words[words.index("-f") + 1] = "raw"
    return words


def write_apart(make):
    """In a process of its own: the kernel counts what this one ever had as memory of its children."""
    process = os.fork()
    if process == 0:
        make().write("image.qcow2")
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0, "the image could not be made"


def remove(name):
    if os.path.lexists(name):
        os.unlink(name)


def read_expected():
    if not os.path.exists(EXPECTED):
        return {}
    with open(EXPECTED, encoding="utf-8") as file:
        rows = [line.split() for line in file if not line.startswith("#")]
    return {row[0]: [int(status) for status in row[1:]] for row in rows}


def verdict(command, status):
    """Succeeds or fails; a comparison that finds a difference has worked."""
    return status == 0 or (command == "compare" and status == 1)


def is_meant(name, command, succeeds):
    return any(re.match(names, name) and re.fullmatch(commands, command) and ours == succeeds
               for names, commands, ours, _ in MEANT)


def compare_with_genuine(genuine, name, statuses):
    for command, status in zip(COMMANDS, statuses):
        if status is None:
            continue
        words = [word for word in words_of(command, name) if word != "--no-sync"]
        remove("out")
        limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
        theirs = subprocess.run([genuine, *words], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, check=False, preexec_fn=limit).returncode
        succeeds = verdict(command, status)
        is_same = theirs in (0, 1, 2, 3, 4, 63) and verdict(command, theirs) == succeeds
        if not is_same and not is_meant(name, command, succeeds):
            print(f"{name}: {command}: {status} here, {theirs} from the genuine tool", flush=True)


def test_image(runner, number, name, arguments, traced):
    """Exit statuses without and with --untrusted (None: not run), and problems."""
    statuses, problems = [], []
    for untrusted in ([], ["--untrusted"]):
        for turn, command in enumerate(COMMANDS):
            is_due = arguments.all or (turn + number + len(untrusted)) % 2 == 0
            if name in ONLY_UNTRUSTED:
                is_due = untrusted or (name, command) in DEARER
            if not is_due:
                statuses.append(None)
                continue
            remove("out")
            words = words_of(command, name)
            words = [words[0], *untrusted, *words[1:]]
            dearer = () if untrusted else DEARER.get((name, command), ())
            status, found = runner.run(words, *dearer)
            statuses.append(status)
            if untrusted and traced:
                found += [f"opened {other}" for other in runner.opened(words)]
            problems += [f"{name}: {' '.join(words)}: {problem}" for problem in found]
    return statuses, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--seconds", type=float, default=5, help="of processor time for each run")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--record", metavar="FILE")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--only")
    parser.add_argument("--shard", default="0/1", help="I/N: every Nth image, from the Ith on")
    arguments = parser.parse_args()
    # LeakSanitizer cannot work in a process that strace traces.
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    part, parts = map(int, arguments.shard.split("/"))
    arguments.all |= bool(arguments.record) or arguments.compare
    runner = Runner(os.path.abspath(arguments.imgconv), arguments.seconds)
    tracing = can_trace()
    expected, recorded, problems = read_expected(), [], []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with open("secret", "wb") as file:
            file.write(b"s" * (1 << 20))
        for number, (name, make) in enumerate(IMAGES):
            if number % parts != part or (arguments.only or "") not in name:
                continue
            write_apart(make)
            if not os.path.exists("sound.qcow2"):
                subprocess.run([runner.program, "create", "-q", "-f", "qcow2", "sound.qcow2", "1M"],
                               check=True)
            traced = tracing and not arguments.record and (
                arguments.all or name.startswith(NAMES_OTHERS))
            statuses, found = test_image(runner, number, name, arguments, traced)
            problems += found
            if found:
                print(*found, sep="\n", flush=True)
            recorded.append(f"{name} {' '.join('-' if s is None else str(s) for s in statuses)}")
            wanted = expected.get(name)
            if wanted is None and not arguments.record:
                problems.append(f"{name}: nothing is expected of it")
            for one, status in zip(range(12), statuses):
                if status is not None and wanted and not arguments.record and wanted[one] != status:
                    problems.append(f"{name}: run {one}: {status}, expected {wanted[one]}")
            if arguments.compare:
                compare_with_genuine(os.environ["IMGCONV_QEMU_IMG10"], name, statuses[:6])
        os.chdir("/")
    if arguments.record:
        with open(arguments.record, "w", encoding="utf-8") as file:
            file.write("# image: exit statuses of info, check, map, measure, compare and convert,\n"
                       "# first without, then with --untrusted; -1: not run\n")
            file.writelines(line.replace(" -", " -1") + "\n" for line in recorded)
    if problems:
        print(f"{len(problems)} problems, of which these are of exit statuses:",
              *[problem for problem in problems if "xpect" in problem], sep="\n")
    print(f"{runner.runs} runs on {len(recorded)} hostile images"
          + ("" if tracing else "; strace cannot trace here"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
