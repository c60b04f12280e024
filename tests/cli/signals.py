#!/usr/bin/env python3
"""Signals: SIGUSR1 asks for progress and never kills; a closed stdout does not kill either.

    tests/cli/signals.py --imgconv build/imgconv
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile


def progress_on_request(program, folder):
    """A rate limit keeps the copy going for as long as the signals come."""
    source, target = os.path.join(folder, "source"), os.path.join(folder, "target")
    with open(source, "wb") as file:
        file.write(b"\1" * (16 << 20))
    process = subprocess.Popen([program, "convert", "-f", "raw", "-r", "8M", source, target],
                               stderr=subprocess.PIPE, text=True)
    # The target appears after the handler was installed.
    while not os.path.exists(target) and process.poll() is None:
        pass
    process.send_signal(signal.SIGUSR1)
    line = process.stderr.readline()
    assert re.fullmatch(r"    \(\d+\.\d\d/100%\)\n", line), f"not a progress line: {line!r}"
    assert process.wait() == 0, process.returncode
    with open(target, "rb") as file:
        assert file.read() == b"\1" * (16 << 20), "the target is not the source"


def closed_stdout(program, folder):
    source, target = os.path.join(folder, "source"), os.path.join(folder, "target")
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
    program = os.path.abspath(parser.parse_args().imgconv)
    with tempfile.TemporaryDirectory() as folder:
        progress_on_request(program, folder)
        closed_stdout(program, folder)
    print("signals: as promised")


if __name__ == "__main__":
    sys.exit(main())
