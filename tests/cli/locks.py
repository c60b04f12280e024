#!/usr/bin/env python3
"""Locks: imgconv and QEMU's tools keep each other out exactly when QEMU's tools do so among themselves.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/locks.py --imgconv build/imgconv [--verbose]

One process holds an image in some role: qemu-io, qemu-nbd, or a convert that a rate limit makes
wait, by the genuine tool and by imgconv. Another one comes to it with each of many commands, by both
tools, and qemu-io, which is itself alone but comes to what imgconv holds. Exit
status, stdout and stderr must be the genuine pair's, but for one more line of imgconv, which has to
name the holder. Exit status 77: the genuine tools are not there.
"""
import argparse
import os
import re
import select
import signal
import subprocess
import sys
import tempfile

ENVIRONMENT = dict(os.environ, LC_ALL="C", TZ="UTC")
SIZE = 4 << 20
HOLDER_LINE = re.compile(r"^Process (\d+) holds the lock: (.*)\n", re.MULTILINE)

# What the second process does. IMG is the image that is held, FMT its format.
COMMANDS = [
    "info IMG", "info -U IMG", "map -f FMT IMG", "map -U IMG", "check -f FMT IMG",
    "check -r all -f FMT IMG", "compare -f FMT -F FMT IMG IMG", "snapshot -l IMG",
    "dd -f FMT if=IMG of=new", "convert -f FMT -O raw IMG new", "convert -U -f FMT -O raw IMG new",
    "convert -f raw -O FMT small IMG", "convert -n -f raw -O FMT small IMG", "create -q -f FMT IMG 1M",
    "create -q -f qcow2 -b IMG -F FMT new", "resize -f FMT IMG 5M", "commit -q over",
    "rebase -u -f qcow2 -b small -F raw IMG", "amend -f FMT -o lazy_refcounts=on IMG",
    "snapshot -c s IMG", "bitmap --add -f FMT IMG b", "dd -f raw -O FMT if=small of=IMG",
    "bench -w -c 1 -f FMT IMG", "map -f qcow2 over", "qemu-io -f FMT -c quit IMG",
    "qemu-io -r -f FMT -c quit IMG",
]

# How the first one holds it. TOOL is a convert that waits after its first request.
HOLDERS = {
    "qcow2": ["qemu-nbd -f qcow2 IMG", "qemu-nbd -r -f qcow2 IMG", "qemu-io -f qcow2 IMG", "qemu-io -r -f qcow2 IMG", "qemu-io -r -U -f qcow2 IMG",
              "TOOL convert -f qcow2 -O raw IMG held", "TOOL convert -U -f qcow2 -O raw IMG held",
              "TOOL convert -n -f raw -O qcow2 source IMG"],
    "raw": ["qemu-nbd -f raw IMG", "qemu-io -f raw IMG", "qemu-io -r -f raw IMG",
            "TOOL convert -f raw -O qcow2 IMG held", "TOOL convert -n -f raw -O raw source IMG"],
}


def beside_qemu_img(name):
    return os.path.join(os.path.dirname(os.environ.get("IMGCONV_QEMU_IMG10", "")), name)


class Folder:
    """The image and what the commands need, put back as it was after each of them."""

    def __init__(self, path, image_format, qemu_img):
        self.path, self.format = path, image_format
        content = bytes(range(1, 256)) * (SIZE // 255 + 1)
        self.write("source", content[:SIZE])
        self.write("small", content[:1 << 20])
        self.run([qemu_img, "convert", "-f", "raw", "-O", image_format, "source", "image"])
        self.run([qemu_img, "create", "-q", "-f", "qcow2", "-b", "image", "-F", image_format, "over"])
        self.kept = {name: self.read(name) for name in ("image", "over")}
        self.times = {name: self.time_of(name) for name in self.kept}

    def time_of(self, name):
        try:
            return os.stat(os.path.join(self.path, name)).st_mtime_ns
        except FileNotFoundError:
            return None

    def read(self, name):
        with open(os.path.join(self.path, name), "rb") as file:
            return file.read()

    def write(self, name, content):
        # In place: locks belong to the inode.
        with open(os.path.join(self.path, name), "ab") as file:
            file.truncate(0)
            file.write(content)

    def run(self, words):
        return subprocess.run(words, cwd=self.path, env=ENVIRONMENT, capture_output=True, text=True,
                              errors="surrogateescape", check=False, timeout=60)

    def restore(self):
        for name, content in self.kept.items():
            if self.time_of(name) != self.times[name]:
                self.write(name, content)
                self.times[name] = self.time_of(name)
        for name in set(os.listdir(self.path)) - {"source", "small", "image", "over", "held"}:
            os.remove(os.path.join(self.path, name))

    def words(self, command):
        return command.replace("IMG", "image").replace("FMT", self.format).split()


class Server:
    """A qemu-nbd in the background, with what is needed here of a Popen."""

    def __init__(self, words, folder):
        self.args = words
        # Both are files that restore() removes.
        subprocess.run([*words, "--fork", "--pid-file=pid", "-k", os.path.join(folder.path, "socket")],
                       cwd=folder.path, env=ENVIRONMENT, check=True)
        self.pid = int(folder.read("pid"))

    def kill(self):
        self.handle = os.pidfd_open(self.pid)
        signal.pidfd_send_signal(self.handle, signal.SIGKILL)

    def communicate(self):
        select.select([self.handle], [], [])
        os.close(self.handle)


def begin(folder, holder, tool):
    """The process, which has its locks."""
    words = folder.words(holder)
    if words[0] == "qemu-nbd":
        return Server([beside_qemu_img(words[0]), *words[1:]], folder)
    is_qemu_io = words[0] == "qemu-io"
    words = [beside_qemu_img(words[0]), *words[1:]] if is_qemu_io else [
        tool, words[1], "-p", "-r", "32k", *words[2:]]
    process = subprocess.Popen(words, cwd=folder.path, env=ENVIRONMENT, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    shown = b""
    # The prompt, or the second line of progress: the first comes before anything is opened.
    while not (b"qemu-io> " in shown if is_qemu_io else re.search(rb"\([1-9]", shown)):
        piece = os.read(process.stdout.fileno(), 4096)
        if not piece:
            sys.exit(f"{' '.join(words)} ended: {shown.decode()}")
        shown += piece
    return process


def end(process):
    process.kill()
    process.communicate()


def ask(folder, command, tool):
    words = folder.words(command)
    result = folder.run([beside_qemu_img(words.pop(0)) if words[0] == "qemu-io" else tool, *words])
    folder.restore()
    # What differs from run to run, and a name that imgconv does without.
    stdout = re.sub(r"in [0-9.]+ seconds", "in T seconds", result.stdout)
    stderr = re.sub(r"bitmaps to \S+:", "bitmaps to it:", result.stderr)
    return result.returncode, stdout, stderr


def judge(reference, answer, holder, is_ours):
    """What is wrong with the answer, or None."""
    status, stdout, stderr = answer
    named = HOLDER_LINE.search(stderr)
    if is_ours and "Is another process using" in stderr:
        if not named or int(named[1]) != holder.pid or os.path.basename(holder.args[0]) not in named[2]:
            return f"the holder, {holder.pid}, is not named"
        stderr = HOLDER_LINE.sub("", stderr)
    if (status, stdout, stderr) == reference:
        return None
    return f"{reference} with the genuine tools, here {(status, stdout, stderr)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    qemu_img = os.environ.get("IMGCONV_QEMU_IMG10", "")
    if not all(os.access(beside_qemu_img(name), os.X_OK) for name in ("qemu-img", "qemu-io", "qemu-nbd")):
        print("skipped: no qemu-img 10, qemu-io and qemu-nbd ($IMGCONV_QEMU_IMG10)")
        sys.exit(77)
    failures = count = refusals = 0
    with tempfile.TemporaryDirectory() as place:
        ours = os.path.join(place, "qemu-img")
        os.symlink(os.path.abspath(arguments.imgconv), ours)
        for image_format, holders in HOLDERS.items():
            os.mkdir(os.path.join(place, image_format))
            folder = Folder(os.path.join(place, image_format), image_format, qemu_img)
            for line in holders:
                reference = {}
                for tool in (qemu_img, ours) if line.startswith("TOOL") else (qemu_img,):
                    holder = begin(folder, line, tool)
                    for command in COMMANDS:
                        if tool == qemu_img:
                            reference[command] = ask(folder, command, qemu_img)
                            refusals += "Is another process" in reference[command][2]
                        for second in (qemu_img, ours) if tool == ours else (ours,):
                            count += 1
                            is_ours = second == ours and not command.startswith("qemu-io")
                            wrong = judge(reference[command], ask(folder, command, second), holder,
                                          is_ours)
                            if wrong or arguments.verbose:
                                print(f"{'ours' if tool == ours else 'genuine'} {line} / "
                                      f"{'ours' if second == ours else 'genuine'} {command}: "
                                      f"{wrong or 'as it should be'}")
                            failures += wrong is not None
                    end(holder)
    print(f"{count} encounters, {failures} not as among QEMU's tools, which refused {refusals}")
    sys.exit(1 if failures or not refusals else 0)


if __name__ == "__main__":
    main()
