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
    def __init__(self, path, folder, can_prove=True):
        self.path, self.folder, self.can_prove = path, folder, can_prove
        # Of subprocess.Popen: who runs it.
        self.user = {}

    def environment(self, path):
        return dict(os.environ, TMPDIR=self.folder, LC_ALL="C", PATH=path)

    def command(self, arguments):
        command = [self.path, "reproduce", "--seed", "1"]
        if not self.can_prove and "handoff" not in arguments:
            # Each hang lasts as long as the limit.
            command += ["--timeout", "3"]
        return command + list(arguments)

    # gdb takes longer than all the rest, so there is none unless a case is about it.
    def run(self, *arguments, path="/nonexistent"):
        return subprocess.run(self.command(arguments), env=self.environment(path),
                              cwd=self.folder, capture_output=True, text=True, check=False,
                              timeout=300, **self.user)

    def start(self, *arguments):
        return subprocess.Popen(self.command(arguments), env=self.environment("/nonexistent"),
                                cwd=self.folder, stdout=subprocess.PIPE, text=True,
                                start_new_session=True, **self.user)


def skipped(reason):
    print(f"  skipped: {reason}", flush=True)


HIDDEN = "the system hides what threads wait for"


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
    threads seldom run beside each other. Returns the first line of the evidence."""
    run = program.start("--protocol", protocol, "--iterations", "500", *options)
    lines, evidence = [], ""
    for line in run.stdout:
        lines.append(line)
        if re.search(r"s  HUNG at \d+\.\d\d%$", line):
            evidence = run.stdout.readline()
            run.terminate()
            break
    run.communicate(timeout=60)
    assert evidence, f"{protocol}: {lines[-3:]}"
    return evidence


def current_survives(program):
    for memory, iterations in (("native", 200), ("armv8", 50)):
        result = expect(program.run("--memory", memory, "--iterations", str(iterations)), 0)
        lines = result.stdout.splitlines()
        ok = [line for line in lines if re.fullmatch(r" *\d+  \d+\.\d{3} s  ok", line)]
        assert len(ok) == iterations, result.stdout
        assert any(line.startswith(f"hangs: 0 of {iterations}: below ") for line in lines), lines


def dispatching_optimisation_hangs_here(program):
    """V1 is a logic bug: no weak memory is needed."""
    expect_hang(program, "V1")


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
    if platform.machine() != "x86_64":
        return skipped("this machine is no x86")
    if len(processors) < 2:
        return skipped("there is one processor only")
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
    return None


def arm_bug_hangs_under_armv8_only(program):
    expect(program.run("--protocol", "V3", "--iterations", "20"), 0)
    result = expect(program.run("--protocol", "V3", "--iterations", "20", "--memory", "armv8"),
                    HANG_SEEN)
    if not program.can_prove:
        return skipped(HIDDEN)
    for evidence in (r"loop in poll, nothing happened for \d",
                     r"all threads sleep without a limit and nothing is signalled",
                     r"completed requests not yet dispatched: [1-9]",
                     r"protocol: notify_me=\d+ .*eventfd=0$",
                     r"last events: .*schedule", r"^ +\d+ loop +ppoll, no timeout",
                     r"^ +\d+ worker +futex, no timeout"):
        assert re.search(evidence, result.stdout, re.M), f"{evidence}: {result.stdout[:3000]}"
    return None


# The case file under --memory armv8.
HANGS = """V1 V2_both V2_fixM_only V3 V3_poll V3_oneshot V3_zhengui V3c_asposted V3d_asposted
    V3e_asposted V3f_padding V3k_cppmem1 V3k_cppmem2 V4_prepare V4_poll V4a_poll V5_noMfence
    V5_noKfence V7_old V8_old""".split()
# Wake-ups get lost, but mostly the next completion brings them along.
MAY_HANG = ["V2_fixK_only", "V10_2014"]
# V9_old takes LDAPR, V11_accept_store a compiler that nobody has.
NEVER = """V2_fixed V3a_mutex V3b_smp_mb V3b_poll V3e_sc V3g_always V3h_sync_gcc V3i_relfence
    V3k_cppmem3 V4a_prepare V5 V6_pending V6_list V7_fixed V8_fixed V9_old V9_fixed V10_rmw
    V11_accept_store V11_sleep current""".split()


def patches_behave_as_reported(program):
    said = program.run("--protocol", "V99").stderr
    known = re.search("It is one of: (.*), all", said).group(1).split(", ")
    assert sorted(known) == sorted(HANGS + MAY_HANG + NEVER), known
    for protocol in HANGS:
        expect_hang(program, protocol, "--memory", "armv8")
    for protocol in NEVER:
        expect(program.run("--protocol", protocol, "--iterations", "3", "--memory", "armv8"), 0)


def matrix_holds_no_contradiction(program):
    """What the explorer forbids is not seen, whatever the protocol; much of the rest is."""
    result = expect(program.run("--protocol", "all", "--iterations", "1", "--output", "json"),
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
    assert document["given-up"] == 0 and not hung["given-up"], document
    evidence = hung["evidence"]
    assert evidence["phase"] == "poll", evidence
    assert evidence["completed"] > evidence["dispatched"], evidence
    if not program.can_prove:
        return skipped(HIDDEN)
    assert evidence["verdict"] == "proved" and evidence["is-proved"] is True, evidence
    assert evidence["eventfd"] == [0], evidence
    assert {thread["role"] for thread in evidence["threads"]} >= {"loop", "worker"}, evidence
    return None


def misuse(program):
    image = os.path.join(program.folder, "image")
    with open(image, "wb") as file:
        file.truncate(1 << 20)
    for arguments in (["--protocol", "V99"], ["--memory", "sparc"], ["--level", "boot"],
                      ["--iterations", "0"], ["--iterations", "1x"], ["--timeout", "-1"],
                      ["--pin", "0"], ["--pin", "0,99999"], ["--output", "xml"], ["image"],
                      ["--level", "handoff", "--", image, "x"], ["--", "-n", image, "x"],
                      ["--", "-O", "qcow2", "-o", "data_file=d", image, "x"], ["--", image],
                      ["--level", "handoff", "--timeout", "5"], ["--max-delay", "5"],
                      ["--requests", "5"], ["--protocol", "all", "--memory", "native"],
                      ["--pin", "0,1023"], ["--pin", "1023,0"],
                      ["--level", "handoff", "--pin", "0,1023"], ["--", "--help"], ["--", os.path.join(program.folder, "absent"), "x"]):
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


def backing_file_is_found_beside_the_target(program):
    """The copy goes to a folder of the program's own; the user's names mean what they meant."""
    os.mkdir(os.path.join(program.folder, "sub"))
    source, base = os.path.join(program.folder, "source"), os.path.join(program.folder, "sub/base")
    for name in (source, base):
        with open(name, "wb") as file:
            file.write(b"\1" * (1 << 20))
    expect(program.run("--iterations", "1", "--", "-f", "raw", "-O", "qcow2", "-B", "base",
                       "-F", "raw", "source", "sub/x"), 0)
    os.remove(source)
    shutil.rmtree(os.path.dirname(base))


def start_slow(program, *options):
    """A convert that takes long, and its process. It pauses most of the time."""
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


def matrix_of_handoffs_can_be_interrupted(program):
    for number in (signal.SIGTERM, signal.SIGINT):
        run = program.start("--protocol", "all", "--level", "handoff",
                            "--iterations", "1000000000")
        # The header, and V1: lost.
        run.stdout.readline(), run.stdout.readline()
        run.send_signal(number)
        run.communicate(timeout=60)
        assert run.returncode == -number, run.returncode


def stopped_convert_is_given_up(program):
    """What cannot be proved to hang is given up by the time limit, and is in no rate."""
    if not program.can_prove:
        return skipped(HIDDEN)
    parent, child, source = start_slow(program, "--timeout", "1", "--iterations", "1")
    os.kill(child, signal.SIGSTOP)
    output, _ = parent.communicate(timeout=120)
    assert parent.returncode == HANG_SEEN, parent.returncode
    for text in (r"s  HUNG\? at \d+\.\d\d%, by the time limit$", "; given up by the time limit$",
                 "stopped by a signal", "^hangs: no run$",
                 "^given up by the time limit: 1 of 1, slow or hung$",
                 "^lost wake-ups that hung the convert: 0 per million sleeps$"):
        assert re.search(text, output, re.M), f"{text}: {output}"
    assert not processes_of_session(parent.pid)
    os.remove(source)
    return None


def slow_convert_is_no_hang(program):
    """It keeps to its rate: the second piece's turn comes after 3 s, the time limit is 1 s."""
    if not program.can_prove:
        return skipped(HIDDEN)
    source = os.path.join(program.folder, "slow")
    with open(source, "wb") as file:
        for offset in (0, 1 << 20):
            file.seek(offset)
            file.write(b"\1" * (96 << 10))
    result = expect(program.run("--timeout", "1", "--iterations", "1", "--", "-f", "raw",
                                "-O", "qcow2", "-r", "32k", source, "x"), 0)
    seconds = float(re.search(r"^ +1  (\d+\.\d{3}) s  ok$", result.stdout, re.M).group(1))
    assert seconds > 2, f"the rate was not kept: {result.stdout}"
    os.remove(source)
    return None


def hidden_wait_is_no_proof(program):
    """A program that its user may run and not read is not shown in /proc either."""
    secret = os.path.join(program.folder, "unreadable")
    shutil.copy(program.path, secret)
    os.chmod(secret, 0o111)
    os.chmod(program.folder, 0o777)
    hidden = Program(secret, program.folder)
    # Root may read and trace everything.
    hidden.user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        expect(hidden.run("--iterations", "1"), 0)
    except PermissionError as error:
        os.remove(secret)
        return skipped(f"nobody else may run programs in {program.folder}: {error}")
    started = time.monotonic()
    evidence = expect_hang(hidden, "V3", "--memory", "armv8", "--timeout", "2")
    assert time.monotonic() - started >= 2, "it did not wait for the time limit"
    assert re.search("loop in poll, .*; probably a lost wake-up: ", evidence), evidence
    result = expect(hidden.run("--protocol", "V1", "--iterations", "3", "--timeout", "1",
                               "--output", "json"), HANG_SEEN)
    found = [row["evidence"] for row in json.loads(result.stdout)["iterations"] if row["hung"]]
    assert found, result.stdout
    for evidence in found:
        assert (evidence["verdict"], evidence["is-proved"]) == ("likely", False), evidence
    os.remove(secret)
    return None


def debugger_is_asked_once(program):
    """A debugger that answers with a known text, and the real one."""
    tools = os.path.join(program.folder, "tools")
    os.mkdir(tools)
    with open(os.path.join(tools, "gdb"), "w", encoding="ascii") as script:
        script.write("#!/bin/sh\necho of itself\necho\necho 'Thread 1 (LWP 7):'\n"
                     "echo '#0  where_it_hangs ()'\n")
    os.chmod(os.path.join(tools, "gdb"), 0o755)
    arguments = ["--protocol", "V1", "--iterations", "8"]
    output = expect(program.run(*arguments, path=tools), HANG_SEEN).stdout
    shutil.rmtree(tools)
    assert len(re.findall("s  HUNG at ", output)) >= 2, output
    answer = r"^Thread 1 \(LWP 7\):\n#0  where_it_hangs \(\)$"
    assert len(re.findall(answer, output, re.M)) == 1, output
    assert "of itself" not in output, output
    if shutil.which("gdb") is None:
        return skipped("no gdb here")
    if not program.can_prove:
        return skipped(HIDDEN)
    output = expect(program.run(*arguments, path=os.environ["PATH"]), HANG_SEEN).stdout
    assert len(re.findall(r"^ *Thread 1 ", output, re.M)) == 1, output
    return None


def shows_system_calls(program):
    parent, child, source = start_slow(program)
    try:
        with open(f"/proc/{child}/syscall", encoding="ascii") as call:
            return bool(call.read())
    except PermissionError:
        return False
    finally:
        parent.terminate()
        parent.communicate()
        os.remove(source)


CASES = [current_survives, dispatching_optimisation_hangs_here, flag_of_2015_hangs_here,
         arm_bug_hangs_under_armv8_only, patches_behave_as_reported, matrix_holds_no_contradiction,
         handoff_loses_and_rescues, json_of_converts, misuse, unknown_to_qemu_img, users_files_stay,
         backing_file_is_found_beside_the_target,
         signals_leave_nothing, matrix_of_handoffs_can_be_interrupted, stopped_convert_is_given_up,
         slow_convert_is_no_hang, hidden_wait_is_no_proof, debugger_is_asked_once]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    path = os.path.abspath(arguments.imgconv)
    with tempfile.TemporaryDirectory() as folder:
        can_prove = shows_system_calls(Program(path, folder))
    for case in CASES:
        if arguments.names and case.__name__ not in arguments.names:
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            case(Program(path, folder, can_prove))
            assert not os.listdir(folder), f"{case.__name__} left {os.listdir(folder)}"
        print(f"{case.__name__}: {time.monotonic() - started:.1f} s", flush=True)
    print("reproduce: as promised")


if __name__ == "__main__":
    sys.exit(main())
