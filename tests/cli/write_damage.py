#!/usr/bin/env python3
"""Writes to damaged images with both programs: what is found is said, and marked, in the same way.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/write_damage.py --imgconv build/imgconv

Both change copies of an image whose tables or refcounts contradict each other. Exit status, the
feature bits that are left and what is said of the damage must be equal; where both succeed, the
genuine tool must find as little wrong as after its own run. Exit status 77: the genuine tool is not
there.
"""
import re
import shutil
import subprocess
import sys

from both_programs import argument_parser, both_programs

CLUSTER = 0x10000
COPIED = 1 << 63
# The image: header, refcount table, refcount block, L1, L2, two clusters of data.
TABLE, BLOCK, L1, L2, DATA = (CLUSTER * i for i in range(1, 6))
# Behind the data when it has a snapshot.
SNAPSHOT_L1, SNAPSHOT_TABLE = (CLUSTER * i for i in range(7, 9))


def l1(value):
    return L1, value, 8


def l2(value):
    return L2, value, 8


def count(cluster, value):
    return BLOCK + 2 * cluster, value, 2


# Name: pokes, and the options of the image.
DAMAGES = {
    "none": ([], ""),
    "L2 table unaligned": ([l1(COPIED | L2 + 512)], ""),
    "L2 table unaligned, version 2": ([l1(COPIED | L2 + 512)], "compat=0.10"),
    "L2 table in the L1 table": ([l1(COPIED | L1)], ""),
    "L2 table in the refcount table": ([l1(COPIED | TABLE)], ""),
    "data in the L1 table": ([l2(COPIED | L1)], ""),
    "data in the L2 table": ([l2(COPIED | L2)], ""),
    "data in the refcount block": ([l2(COPIED | BLOCK)], ""),
    "data in the refcount table": ([l2(COPIED | TABLE)], ""),
    "data unaligned": ([l2(COPIED | DATA + 512)], ""),
    "data unaligned and shared": ([l2(DATA + 512)], ""),
    "zeros unaligned": ([l2(COPIED | DATA + 512 | 1)], ""),
    "data behind all host offsets": ([l2(COPIED | 0xffffffffff0000)], ""),
    "subclusters both data and zeros": ([(L2 + 8, 0x100000001, 8)], "extended_l2=on"),
    "refcount block unaligned": ([(TABLE, BLOCK + 512, 8)], ""),
    "refcount block missing": ([(TABLE, 0, 8)], ""),
    "header not counted": ([count(0, 0)], ""),
    "header not counted, no L2 table": ([count(0, 0), l1(0)], ""),
    "refcount table not counted": ([count(1, 0)], ""),
    "refcount block not counted": ([count(2, 0)], ""),
    "L1 table not counted": ([count(3, 0)], ""),
    "L1 table not counted, no L2 table": ([count(3, 0), l1(0)], ""),
    "L2 table not counted": ([count(4, 0)], ""),
    "data counted often": ([count(5, 0xffff)], ""),
    "dirty": ([(72, 1, 8)], "lazy_refcounts=on"),
    "dirty, data not counted": ([(72, 1, 8), count(5, 0)], "lazy_refcounts=on"),
    "dirty, a leak": ([(72, 1, 8), count(9, 1)], "lazy_refcounts=on"),
    "dirty, L2 table unaligned": ([(72, 1, 8), l1(COPIED | L2 + 512)], ""),
    "corrupt": ([(72, 2, 8)], ""),
}
# Of an image with a snapshot.
SNAPSHOT_DAMAGES = {
    "snapshot: none": [],
    "snapshot: data in its L1 table": [l1(COPIED | L2), l2(COPIED | SNAPSHOT_L1)],
    "snapshot: L2 table in its L1 table": [l1(COPIED | SNAPSHOT_L1)],
    "snapshot: its L1 table not counted": [count(7, 0)],
    "snapshot: its table not counted": [count(8, 0)],
    "snapshot: its L1 table unaligned": [(SNAPSHOT_TABLE, SNAPSHOT_L1 + 512, 8)],
}
WRITES = {
    "data": ["convert", "-n", "-m", "1", "-O", "qcow2", "data", "x"],
    "data behind": ["convert", "-n", "-m", "1", "-O", "qcow2", "behind", "x"],
    "compressed behind": ["convert", "-n", "-c", "-m", "1", "-O", "qcow2", "behind", "x"],
    "snapshot": ["snapshot", "-c", "s", "x"],
    "snapshot applied": ["snapshot", "-a", "old", "x"],
    "snapshot deleted": ["snapshot", "-d", "old", "x"],
    "resize": ["resize", "x", "8M"],
    "bitmap": ["bitmap", "--add", "x", "b"],
    "amend": ["amend", "-o", "lazy_refcounts=off", "x"],
}
# Where the genuine tool is not followed.
BETTER = {
    # It harms what it takes for the L2 table before it notices, or falls over an assertion.
    "L2 table in the L1 table": {"data behind", "compressed behind"},
    "L2 table in the refcount block": set(WRITES),
    "L2 table in the refcount table": {"data", "data behind", "compressed behind"},
    # It counts the metadata as free, and uses the space; here metadata keeps its count.
    "data in the L1 table": {"data behind", "compressed behind"},
    "data in the L2 table": {"data behind", "compressed behind"},
    "data in the refcount block": {"data behind", "compressed behind"},
    "data in the refcount table": {"data behind", "compressed behind"},
    # The last: it lowers the count of the snapshot's table, which is kept here, and told of.
    "snapshot: data in its L1 table": {"data behind", "compressed behind", "snapshot applied"},
    # It frees first and allocates then, and finds the other error.
    "refcount block missing": {"data behind", "compressed behind", "snapshot"},
    "refcount block unaligned": {"data behind", "compressed behind"},
    "L2 table not counted": {"data behind", "snapshot"},
    # It takes the dirty bit away, though the repair left errors; here the next command tries again.
    "dirty, L2 table unaligned": set(WRITES),
    # It notices when it closes the image, and succeeds all the same; the other as above.
    "snapshot: L2 table in its L1 table": {"data", "snapshot applied"},
    # Here the active L1 table moves, and the free place turns out not to be free.
    "snapshot: its L1 table not counted": {"snapshot applied"},
    "snapshot: its table not counted": {"snapshot applied"},
}


def make_image(genuine, options, pokes, has_snapshot):
    words = ["-o", options] if options else []
    subprocess.run([genuine, "create", "-q", "-f", "qcow2", *words, "image", "4M"], check=True)
    subprocess.run([genuine, "convert", "-n", "-O", "qcow2", "data", "image"], check=True)
    if has_snapshot:
        subprocess.run([genuine, "snapshot", "-c", "old", "image"], check=True)
    with open("image", "r+b") as file:
        for offset, value, length in pokes:
            file.seek(offset)
            file.write(value.to_bytes(length, "big"))


def run(program, words):
    """Status, what is said of damage, and the incompatible features."""
    result = subprocess.run([program, *words], capture_output=True, check=False, timeout=60)
    with open("x", "rb") as file:
        header = file.read(80)
    remarks = [line for line in result.stderr.decode().splitlines()
               if not line.startswith("qemu-img: ")]
    return result.returncode, remarks, header[72:80].hex() if header[7] > 2 else ""


def errors_found(genuine):
    out = subprocess.run([genuine, "check", "x"], capture_output=True, check=False).stdout.decode()
    found = re.search(r"(\d+) errors were found", out)
    return int(found.group(1)) if found else 0


def compare(programs, damage, write):
    answers, errors = {}, {}
    for name, program in programs.items():
        shutil.copyfile("image", "x")
        answers[name] = run(program, WRITES[write])
        errors[name] = errors_found(programs["genuine"])
    is_worse = answers["ours"][0] == 0 and errors["ours"] > errors["genuine"]
    if answers["ours"] == answers["genuine"] and not is_worse:
        return True
    print(f"{damage}: {write}")
    for name, answer in answers.items():
        print(f"  {name:8} {answer}, {errors[name]} errors left")
    return False


def main():
    arguments = argument_parser(__doc__).parse_args()
    failed = cases = 0
    with both_programs(arguments.imgconv) as programs:
        genuine = programs["genuine"]
        for name, at in (("data", 0), ("behind", 1 << 20)):
            with open(name, "wb") as source:
                source.seek(at)
                source.write(b"data" * (2 * CLUSTER // 4))
                source.truncate(4 << 20)
        damages = [(damage, *image, False) for damage, image in DAMAGES.items()]
        damages += [(damage, pokes, "", True) for damage, pokes in SNAPSHOT_DAMAGES.items()]
        for damage, pokes, options, has_snapshot in damages:
            make_image(genuine, options, pokes, has_snapshot)
            for write in WRITES:
                if write in BETTER.get(damage, ()):
                    continue
                cases += 1
                failed += not compare(programs, damage, write)
    print(f"{cases} cases, {failed} with differences")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
