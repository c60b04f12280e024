#!/usr/bin/env python3
"""reproduce: the historical hangs appear where they must and nowhere else, the evidence is complete,
and nothing is left behind: no process, no file, no change to the user's images.

    tests/cli/reproduce.py --imgconv build/imgconv [NAME...]
"""
import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HANG_SEEN = 3
MISUSE = 1


class Program:
    def __init__(self, path, folder):
        self.path, self.folder = path, folder

    def environment(self, has_debugger):
        environment = dict(os.environ, TMPDIR=self.folder, LC_ALL="C")
        if not has_debugger:
            # gdb takes longer than all the rest.
            environment["PATH"] = "/nonexistent"
        return environment

    def command(self, arguments):
        return [self.path, "reproduce", "--seed", "1", *arguments]

    def run(self, *arguments, has_debugger=False):
        return subprocess.run(self.command(arguments), env=self.environment(has_debugger),
                              cwd=self.folder, capture_output=True, text=True, check=False,
                              timeout=300)

    def start(self, *arguments):
        return subprocess.Popen(self.command(arguments), env=self.environment(False),
                                cwd=self.folder, stdout=subprocess.PIPE, text=True,
                                start_new_session=True)


def expect(result, code):
    assert result.returncode == code, \
        f"{result.args}: exit status {result.returncode}, not {code}\n" \
        f"{result.stdout[-2000:]}{result.stderr[-2000:]}"
    return result


def processes_of_session(session):
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as stat:
                # After the command's name in parentheses: state, parent, group, session.
                fields = stat.read().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(entry))
    return found


def wait_until(condition, what, limit_s=60):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        os.sched_yield()


def expect_hang(program, protocol, *options):
    """It hangs within 500 converts. How many it takes is the machine's: mostly one, more where
    threads seldom run beside each other."""
    run = program.start("--protocol", protocol, "--iterations", "500", *options)
    lines = []
    for line in run.stdout:
        lines.append(line)
        if "HUNG" in line:
            run.terminate()
            break
    run.communicate(timeout=60)
    assert any("HUNG" in line for line in lines), f"{protocol}: {lines[-3:]}"


def current_survives(program):
    for memory, iterations in (("native", 200), ("armv8", 50)):
        result = expect(program.run("--memory", memory, "--iterations", str(iterations)), 0)
        lines = result.stdout.splitlines()
        ok = [line for line in lines if re.fullmatch(r" *\d+  \d+\.\d{3} s  ok", line)]
        assert len(ok) == iterations, result.stdout
        assert any(line.startswith(f"hangs: 0 of {iterations}: below ") for line in lines), lines


def dispatching_optimisation_hangs_here(program):
    """V1 is a logic bug: no weak memory is needed."""
    result = expect(program.run("--protocol", "V1", "--iterations", "20"), HANG_SEEN)
    assert re.search(r"^ *\d+  \d+\.\d{3} s  HUNG at \d+\.\d\d%$", result.stdout, re.M)


def make_overlay(program):
    """Short pieces of data with nothing between them, and a backing file to put a copy over. Then
    writes keep their turn, so a read that is done waits for a write and starts nothing new: the
    write's completion is the last one that is outstanding, again and again."""
    disk, source, base = (os.path.join(program.folder, name) for name in ("d", "source", "base"))
    with open(disk, "wb") as file:
        for offset in range(0, 8 << 20, 8 << 10):
            file.seek(offset)
            file.write(b"\1" * 4096)
        file.truncate(8 << 20)
    small_clusters = ["-q", "-o", "cluster_size=4k"]
    for command in (["create", "-f", "qcow2", *small_clusters, base, "8M"],
                    ["convert", "-f", "raw", "-O", "qcow2", *small_clusters[1:], disk, source]):
        subprocess.run([program.path, *command], check=True)
    os.remove(disk)
    return source, base


def flag_of_2015_hangs_here(program):
    """V2 needs no ARM: x86 delays a store, too. The loop and the one thread of the pool each have a
    processor, and cold stores keep the loop's store waiting."""
    processors = sorted(os.sched_getaffinity(0))
    if platform.machine() != "x86_64" or len(processors) < 2:
        return
    source, base = make_overlay(program)
    options = ["--pin", f"{processors[0]},{processors[-1]}", "--cold-stores", "32"]
    convert = ["--", "-m", "2", "--threads", "1", "-f", "qcow2", "-O", "qcow2",
               "-o", "cluster_size=4k", "-B", base, "-F", "qcow2", source, "x"]
    for protocol in ("V2_both", "V5_noMfence"):
        expect_hang(program, protocol, *options, *convert)
    for protocol in ("current", "V2_fixed", "V3", "V5"):
        expect(program.run("--protocol", protocol, "--iterations", "5", *options, *convert), 0)
    os.remove(source)
    os.remove(base)


def arm_bug_hangs_under_armv8_only(program):
    expect(program.run("--protocol", "V3", "--iterations", "50"), 0)
    result = expect(program.run("--protocol", "V3", "--iterations", "20", "--memory", "armv8"),
                    HANG_SEEN)
    for evidence in (r"loop in poll, nothing happened for \d",
                     r"all threads sleep without a limit and nothing is signalled",
                     r"completed requests not yet dispatched: [1-9]",
                     r"protocol: notify_me=\d+ .*eventfd=0$",
                     r"last events: .*schedule", r"^ +\d+ loop +ppoll, no timeout",
                     r"^ +\d+ worker +futex, no timeout"):
        assert re.search(evidence, result.stdout, re.M), f"{evidence}: {result.stdout[:3000]}"


def patches_behave_as_reported(program):
    for patch in ("V3b_smp_mb", "V3a_mutex", "V5"):
        expect(program.run("--protocol", patch, "--iterations", "10", "--memory", "armv8"), 0)
    for patch in ("V3c_asposted", "V3e_asposted", "V3_poll", "V4_prepare", "V5_noMfence"):
        expect_hang(program, patch, "--memory", "armv8")


def matrix_holds_no_contradiction(program):
    """What the explorer forbids is not seen, whatever the protocol; much of the rest is."""
    result = expect(program.run("--protocol", "all", "--iterations", "3", "--output", "json"),
                    HANG_SEEN)
    rows = json.loads(result.stdout)
    assert {row["protocol"] for row in rows} >= {"V1", "V3", "V9_old", "V11_sleep", "current"}
    wrong = [row for row in rows if row["observed"] and not row["predicted"]]
    assert not wrong, wrong
    seen = {row["protocol"] for row in rows if row["observed"] and row["memory"] == "armv8"}
    assert len(seen) >= 5, seen
    human = expect(program.run("--protocol", "all", "--iterations", "1"), HANG_SEEN).stdout
    assert re.search(r"^V1 +native +lost +(lost after 1|none in 1)$", human, re.M), human
    assert re.search(r"^current +armv8 +never +none in 1$", human, re.M), human


def handoff_loses_and_rescues(program):
    expect(program.run("--level", "handoff", "--iterations", "100000"), 0)
    result = expect(program.run("--level", "handoff", "--protocol", "V3", "--memory", "armv8",
                                "--iterations", "2000", "--output", "json"), HANG_SEEN)
    figures = json.loads(result.stdout)
    assert figures["rounds"] == 2000 and figures["lost"] > 0, figures
    assert figures["rescued"] >= figures["lost"], figures
    assert figures["sleeps"] == figures["wake-ups"] + figures["lost"], figures


def json_of_converts(program):
    result = expect(program.run("--protocol", "V3", "--memory", "armv8", "--iterations", "20",
                                "--output", "json"), HANG_SEEN)
    document = json.loads(result.stdout)
    assert document["runs"] == 20 and document["hangs"] >= 1, document
    hung = next(row for row in document["iterations"] if row["hung"])
    evidence = hung["evidence"]
    assert evidence["phase"] == "poll" and evidence["is-proved"] is True, evidence
    assert evidence["completed"] > evidence["dispatched"] and evidence["eventfd"] == [0], evidence
    assert {thread["role"] for thread in evidence["threads"]} >= {"loop", "worker"}, evidence


def misuse(program):
    image = os.path.join(program.folder, "image")
    with open(image, "wb") as file:
        file.truncate(1 << 20)
    for arguments in (["--protocol", "V99"], ["--memory", "sparc"], ["--level", "boot"],
                      ["--iterations", "0"], ["--iterations", "1x"], ["--timeout", "-1"],
                      ["--pin", "0"], ["--pin", "0,99999"], ["--output", "xml"], ["image"],
                      ["--level", "handoff", "--", image, "x"], ["--", "-n", image, "x"],
                      ["--", "-O", "qcow2", "-o", "data_file=d", image, "x"], ["--", image],
                      ["--", "--help"], ["--", os.path.join(program.folder, "absent"), "x"]):
        result = expect(program.run(*arguments), MISUSE)
        assert result.stderr.startswith("imgconv: "), result.stderr
    os.remove(image)


def unknown_to_qemu_img(program):
    link = os.path.join(program.folder, "qemu-img")
    os.symlink(program.path, link)
    result = subprocess.run([link, "reproduce"], capture_output=True, text=True, check=False)
    os.remove(link)
    assert result.returncode == 1 and "Command not found: reproduce" in result.stderr, result


def users_files_stay(program):
    source, target = (os.path.join(program.folder, name) for name in ("source", "target"))
    for name, byte in ((source, b"\1"), (target, b"\2")):
        with open(name, "wb") as file:
            file.write(byte * (1 << 20))

    def state():
        return [(hashlib.sha256(open(name, "rb").read()).digest(), os.stat(name).st_mtime_ns)
                for name in (source, target)]
    before = state()
    expect(program.run("--iterations", "3", "--", "-f", "raw", "-O", "qcow2", source, target), 0)
    assert state() == before, "the user's files were touched"
    os.remove(source)
    os.remove(target)


def start_slow(program, *options):
    """A convert that takes long, and its process."""
    source = os.path.join(program.folder, "slow")
    with open(source, "wb") as file:
        file.write(b"\1" * (4 << 20))
    parent = program.start(*options, "--", "-f", "raw", "-O", "qcow2", "-r", "64k", source, "x")
    # The header is printed before the first child starts.
    parent.stdout.readline()
    wait_until(lambda: len(processes_of_session(parent.pid)) == 2, "the child starts")
    child = next(process for process in processes_of_session(parent.pid) if process != parent.pid)
    return parent, child, source


def signals_leave_nothing(program):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        parent, _, source = start_slow(program)
        parent.send_signal(number)
        parent.communicate(timeout=60)
        assert parent.returncode == -number, parent.returncode
        wait_until(lambda session=parent.pid: not processes_of_session(session), "the child dies")
        left = [name for name in os.listdir(program.folder) if name != "slow"]
        if number == signal.SIGKILL:
            # Nobody was left to remove the folder.
            for name in left:
                shutil.rmtree(os.path.join(program.folder, name))
        else:
            assert not left, left
        os.remove(source)


def stopped_convert_is_a_hang(program):
    """What cannot be proved to hang is given up by the time limit."""
    parent, child, source = start_slow(program, "--timeout", "1", "--iterations", "1")
    os.kill(child, signal.SIGSTOP)
    output, _ = parent.communicate(timeout=120)
    assert parent.returncode == HANG_SEEN, parent.returncode
    assert "given up by the time limit" in output, output
    assert not processes_of_session(parent.pid)
    os.remove(source)


def debugger_is_asked_once(program):
    if shutil.which("gdb") is None:
        return
    result = expect(program.run("--protocol", "V1", "--iterations", "4", has_debugger=True),
                    HANG_SEEN)
    assert len(re.findall(r"^ *Thread 1 ", result.stdout, re.M)) <= 1, result.stdout


CASES = [current_survives, dispatching_optimisation_hangs_here, flag_of_2015_hangs_here,
         arm_bug_hangs_under_armv8_only, patches_behave_as_reported, matrix_holds_no_contradiction,
         handoff_loses_and_rescues, json_of_converts, misuse, unknown_to_qemu_img, users_files_stay,
         signals_leave_nothing, stopped_convert_is_a_hang, debugger_is_asked_once]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    for case in CASES:
        if arguments.names and case.__name__ not in arguments.names:
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            case(Program(os.path.abspath(arguments.imgconv), folder))
            assert not os.listdir(folder), f"{case.__name__} left {os.listdir(folder)}"
        print(f"{case.__name__}: {time.monotonic() - started:.1f} s", flush=True)
    print("reproduce: as promised")


if __name__ == "__main__":
    sys.exit(main())
