#!/usr/bin/env python3
"""Signals: SIGUSR1 asks for progress and never kills; a closed stdout does not kill either. What a
killed convert or dd leaves does not pass for an image, also where no file can be without a name.

    tests/cli/signals.py --imgconv build/imgconv [--shim build/tests/cli/libfaulty_io.so]
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile


def wait_for_handler(process, number):
    """Until the process would not be killed by the signal any more."""
    caught = 0
    while not caught >> (number - 1) & 1:
        assert process.poll() is None, "it ended before the signal came"
        with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
            caught = int(re.search(r"SigCgt:\s*([0-9a-f]+)", status.read()).group(1), 16)


def killed_in_the_middle(program, folder, arguments, number, catches=None, env=None):
    """Ends a copy of 16 MiB by a signal when some of it is written. Returns the target's name."""
    source, target = os.path.join(folder, "source"), os.path.join(folder, "target")
    with open(source, "wb") as file:
        file.write(b"\1" * (16 << 20))
    process = subprocess.Popen([program, "convert", "-p", "-f", "raw", "-r", "8M", *arguments,
                                source, target], stdout=subprocess.PIPE, env=env)
    if catches:
        wait_for_handler(process, catches)
    shown = b""
    while not re.search(rb"\([1-9]", shown):
        shown += os.read(process.stdout.fileno(), 100)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == -number, process.returncode
    return target


def killed_new_target(program, folder):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        killed_in_the_middle(program, folder, ["-O", "qcow2"], number)
        assert os.listdir(folder) == ["source"], os.listdir(folder)


def killed_with_temporary_name(program, folder, shim):
    """A file system that has no files without a name. SIGKILL leaves the temporary one there."""
    env = dict(os.environ, LD_PRELOAD=shim, IMGCONV_FAULTS="tmpfile")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        killed_in_the_middle(program, folder, ["-O", "qcow2"], number, catches=number, env=env)
        assert os.listdir(folder) == ["source"], (number, os.listdir(folder))
    killed_in_the_middle(program, folder, ["-O", "qcow2"], signal.SIGKILL, env=env)
    left = [name for name in os.listdir(folder) if name != "source"]
    assert len(left) == 1 and left[0].startswith(".imgconv-"), left


def killed_dd(program, folder, shim):
    """The signal comes with the third write, when three quarters of the windows are not claimed."""
    source, target = os.path.join(folder, "source"), os.path.join(folder, "target")
    with open(source, "wb") as file:
        file.write(b"\1" * (32 << 20))
    with open(target, "wb") as file:
        file.write(b"old")
    killed = subprocess.run([program, "dd", "-f", "raw", f"if={source}", f"of={target}"], check=False,
                            env=dict(os.environ, LD_PRELOAD=shim, IMGCONV_FAULTS="signal"))
    assert killed.returncode == -signal.SIGTERM, killed
    assert os.path.getsize(target) == 0, "a part of a copy is left"


def killed_existing_target(program, folder):
    target = os.path.join(folder, "target")
    with open(target, "wb") as file:
        file.write(b"old")
    # -S: where space can be shared, nothing would be left to do.
    killed_in_the_middle(program, folder, ["-O", "raw", "-S", "4k"], signal.SIGTERM,
                         catches=signal.SIGTERM)
    assert os.path.getsize(target) == 0, "half a raw image is left"
    killed_in_the_middle(program, folder, ["-O", "qcow2"], signal.SIGKILL)
    said = subprocess.run([program, "info", target], stdout=subprocess.PIPE, text=True, check=True)
    assert "corrupt: true" in said.stdout, said.stdout
    repaired = subprocess.run([program, "check", "-q", "-r", "all", target], check=False).returncode
    assert repaired == 0, repaired
    said = subprocess.run([program, "info", target], stdout=subprocess.PIPE, text=True, check=True)
    assert "virtual size: 0 B (0 bytes)" in said.stdout, said.stdout


def killed_while_it_waits_for_its_rate(program, folder):
    """The first chunk is written at once, and the next one waits for minutes."""
    source, target = os.path.join(folder, "source"), os.path.join(folder, "target")
    with open(source, "wb") as file:
        file.write(b"\1" * (32 << 20))
    with open(target, "wb") as file:
        file.write(b"old")
    process = subprocess.Popen([program, "convert", "-p", "-f", "raw", "-O", "raw", "-S", "4k", "-r",
                                "8k", source, target], stdout=subprocess.PIPE)
    wait_for_handler(process, signal.SIGTERM)
    shown = b""
    while not re.search(rb"\([1-9]", shown):
        shown += os.read(process.stdout.fileno(), 100)
    process.send_signal(signal.SIGTERM)
    # The second chunk's turn comes after 256 s.
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM, process.returncode


def progress_on_request(program, folder):
    """A rate limit keeps the copy going for as long as the signals come."""
    source, target = os.path.join(folder, "source"), os.path.join(folder, "target")
    with open(source, "wb") as file:
        file.write(b"\1" * (16 << 20))
    process = subprocess.Popen([program, "convert", "-f", "raw", "-S", "4k", "-r", "8M", source, target],
                               stderr=subprocess.PIPE, text=True)
    wait_for_handler(process, signal.SIGUSR1)
    process.send_signal(signal.SIGUSR1)
    line = process.stderr.readline()
    assert re.fullmatch(r"    \(\d+\.\d\d/100%\)\n", line), f"not a progress line: {line!r}"
    assert process.wait() == 0, process.returncode
    with open(target, "rb") as file:
        assert file.read() == b"\1" * (16 << 20), "the target is not the source"


def closed_stdout(program, folder):
    source, target = os.path.join(folder, "source"), os.path.join(folder, "target")
    with open(source, "wb") as file:
        file.write(b"\1" * (1 << 20))
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run([program, "convert", "-p", "-f", "raw", source, target], stdout=writer,
                             check=False)
    os.close(writer)
    assert process.returncode == 0, process.returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--shim")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.imgconv)
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    cases = [progress_on_request, closed_stdout, killed_new_target, killed_existing_target,
             killed_while_it_waits_for_its_rate]
    notes = []
    if arguments.shim:
        shim = os.path.abspath(arguments.shim)
        cases += [lambda which, folder: killed_with_temporary_name(which, folder, shim),
                  lambda which, folder: killed_dd(which, folder, shim)]
    else:
        notes.append("no --shim: no dd, and nothing without O_TMPFILE")
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            case(program, folder)
    print("signals: as promised", *notes, sep="; ")


if __name__ == "__main__":
    sys.exit(main())
