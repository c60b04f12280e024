#!/usr/bin/env python3
"""What an image says of itself beyond imgconv's knowledge survives every command that changes it.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/header_rewrites.py --imgconv build/imgconv

The images carry what nobody knows: header fields, an extension, compatible and autoclear bits. Both
programs run each command on a copy; their headers must then say the same, except where tables are.
Exit status 77: the genuine tool is not there.
"""
import shutil
import struct
import subprocess
import sys

from both_programs import argument_parser, both_programs

UNKNOWN_EXTENSION = 0x12345678
COMMANDS = {
    "amend": ["amend", "-o", "lazy_refcounts=on", "x"],
    "amend of refcounts": ["amend", "-o", "refcount_bits=32", "x"],
    "bitmap": ["bitmap", "--add", "x", "b"],
    "check": ["check", "x"],
    "check -r": ["check", "-r", "all", "x"],
    "commit": ["commit", "x"],
    "convert -n": ["convert", "-n", "-O", "qcow2", "source", "x"],
    "info": ["info", "x"],
    "rebase": ["rebase", "-u", "-b", "other-base", "-F", "qcow2", "x"],
    "rebase onto nothing": ["rebase", "-b", "", "x"],
    "resize": ["resize", "x", "200M"],
    "snapshot": ["snapshot", "-c", "s", "x"],
}


def make_image(genuine, options, path):
    words = [genuine, "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2"]
    subprocess.run([*words, *options, path, "100M"], check=True)
    with open(path, "r+b") as file:
        cluster = bytearray(file.read(4096))
        make_strange(cluster)
        file.seek(0)
        file.write(cluster)


def make_strange(cluster):
    """Unknown fields of 16 bytes behind the known ones, an extension behind the known ones."""
    name_at, name_length = struct.unpack_from(">QI", cluster, 8)
    begin = struct.unpack_from(">I", cluster, 100)[0]
    name = bytes(cluster[name_at:name_at + name_length])
    extensions = bytes(cluster[begin:name_at - 8])
    strange = struct.pack(">II", UNKNOWN_EXTENSION, 5) + b"hello\0\0\0" + bytes(8)
    tail = b"unknown fields.." + extensions + strange + name
    struct.pack_into(">Q", cluster, 8, begin + len(tail) - len(name))
    struct.pack_into(">I", cluster, 100, begin + 16)
    cluster[begin:] = (tail + bytes(len(cluster)))[:len(cluster) - begin]
    compatible, autoclear = struct.unpack_from(">QQ", cluster, 80)
    struct.pack_into(">QQ", cluster, 80, compatible | 1 << 40, autoclear | 1 << 41)


def describe(path):
    with open(path, "rb") as file:
        head = file.read(4096)
    begin = struct.unpack_from(">I", head, 100)[0]
    said = {"version": head[4:8].hex(), "size": head[24:32].hex(), "fields": head[104:begin].hex(),
            "features": head[72:96].hex(), "extensions": []}
    name_at, name_length = struct.unpack_from(">QI", head, 8)
    said["backing"] = head[name_at:name_at + name_length] if name_at else b""
    while True:
        kind, length = struct.unpack_from(">II", head, begin)
        # Bitmaps: their number and the directory's size, not its place.
        end = begin + 8 + (16 if kind == 0x23852875 else length)
        said["extensions"].append((hex(kind), head[begin + 8:end].hex()))
        if kind == 0:
            return said
        begin += 8 + (length + 7) // 8 * 8


def differences(programs, options):
    make_image(programs["genuine"], options, "image")
    for name, words in COMMANDS.items():
        said = {}
        for program, path in programs.items():
            for file in ("image", "base"):
                shutil.copyfile(file, {"image": "x"}.get(file, "kept-base"))
            result = subprocess.run([path, *words], capture_output=True, check=False)
            said[program] = (result.returncode, result.stderr, describe("x"))
            shutil.copyfile("kept-base", "base")
        if said["ours"] != said["genuine"]:
            yield f"{name} {options}\n  ours:    {said['ours']}\n  genuine: {said['genuine']}"


def main():
    arguments = argument_parser(__doc__).parse_args()
    failed = 0
    with both_programs(arguments.imgconv) as programs:
        genuine = programs["genuine"]
        for base in ("base", "other-base"):
            subprocess.run([genuine, "create", "-q", "-f", "qcow2", base, "100M"], check=True)
        with open("source", "wb") as source:
            source.write(b"data" * 40000)
            source.truncate(100 << 20)
        for options in ([], ["-o", "cluster_size=4k"], ["-o", "extended_l2=on,compression_type=zstd"]):
            for difference in differences(programs, options):
                print(difference)
                failed += 1
    print(f"{failed} differences")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
