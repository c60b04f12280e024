#!/usr/bin/env python3
"""Converts random images with imgconv and with qemu-img, for several -S, and compares the holes.

The data/hole map of a raw target must be equal, byte by byte of its boundaries, and so must the
bytes. Sources are raw files with holes, qcow2 images of several cluster sizes, compressed ones, and
overlays on them.

usage: sparse_differential.py --imgconv PROGRAM [--images N] [--seed N] [--keep]
qemu-img: IMGCONV_QEMU_IMG, else PATH. Exit status 77 when it is missing (ctest: skipped).
"""
import argparse
import filecmp
import os
import random
import shutil
import subprocess
import sys
import tempfile

SPARSE_SIZES = ["4k", "8k", "64k", "1M", "0"]
SECTOR = 512


def hole_map(path):
    """The data extents of a file as the file system tells them: [(begin, end), ...]."""
    extents = []
    with open(path, "rb") as image:
        length = os.fstat(image.fileno()).st_size
        position = 0
        while position < length:
            try:
                begin = os.lseek(image.fileno(), position, os.SEEK_DATA)
            except OSError:
                break
            position = os.lseek(image.fileno(), begin, os.SEEK_HOLE)
            extents.append((begin, position))
    return length, extents


def write_stretches(rng, path, size, sparse):
    """A raw file of stretches: data, written zeros and holes, of lengths from a sector up."""
    with open(path, "wb") as image:
        image.truncate(size)
        position = 0
        while position < size:
            longest = rng.choice([2, 8, 40, 300, 3000])
            length = min(size - position, rng.randint(1, longest) * SECTOR)
            kind = rng.random()
            image.seek(position)
            if kind < 0.45:
                data = bytearray(rng.randbytes(length))
                for _ in range(rng.randint(0, 4)):  # lone zero sectors inside data
                    at = rng.randrange(0, length, SECTOR)
                    data[at:at + SECTOR] = bytes(min(SECTOR, length - at))
                image.write(data)
            elif kind < 0.75 or not sparse:
                image.write(bytes(length))
            position += length


def make_source(rng, qemu_img, folder, index):
    """Returns the path of a new source and a word about it."""
    size = rng.randint(1, 6 * 2048) * SECTOR
    raw = os.path.join(folder, "source.raw")
    write_stretches(rng, raw, size, sparse=True)
    kind = index % 5
    if kind < 2:
        return raw, "raw"
    cluster_size = rng.choice([512, 4096, 16384, 65536, 1 << 20])
    options = f"cluster_size={cluster_size}"
    image = os.path.join(folder, "source.qcow2")
    # -S 0 keeps written zeros as data, so that the copy has something to find.
    command = [qemu_img, "convert", "-O", "qcow2", "-o", options, raw, image]
    if kind == 3:
        command.insert(2, "-c")
    elif rng.random() < 0.6:
        command[2:2] = ["-S", rng.choice(["0", "64k"])]
    subprocess.run(command, check=True)
    if kind != 4:
        return image, f"qcow2, {options}{', compressed' if kind == 3 else ''}"
    overlay = os.path.join(folder, "overlay.qcow2")
    top = os.path.join(folder, "top.raw")
    write_stretches(rng, top, rng.randint(1, 6 * 2048) * SECTOR, sparse=True)
    top_clusters = rng.choice([512, 4096, 65536])
    subprocess.run([qemu_img, "convert", "-O", "qcow2", "-o", f"cluster_size={top_clusters}", top,
                    overlay], check=True)
    subprocess.run([qemu_img, "rebase", "-u", "-b", image, "-F", "qcow2", overlay], check=True)
    return overlay, f"overlay of {top_clusters} on qcow2, {options}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("IMGCONV_SEED", "1")))
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    qemu_img = os.environ.get("IMGCONV_QEMU_IMG") or shutil.which("qemu-img")
    if not qemu_img:
        print("skipped: there is no qemu-img")
        return 77
    failures = 0
    folder = tempfile.mkdtemp(prefix="imgconv-sparse-")
    try:
        for index in range(arguments.images):
            rng = random.Random(f"{arguments.seed}/{index}")
            source, description = make_source(rng, qemu_img, folder, index)
            for sparse_size in SPARSE_SIZES:
                ours = os.path.join(folder, "ours.raw")
                theirs = os.path.join(folder, "theirs.raw")
                tail = ["-S", sparse_size, "-O", "raw", source]
                subprocess.run([arguments.imgconv, "convert", "--no-sync", *tail, ours], check=True)
                subprocess.run([qemu_img, "convert", *tail, theirs], check=True)
                same_map = hole_map(ours) == hole_map(theirs)
                same_bytes = filecmp.cmp(ours, theirs, shallow=False)
                if not (same_map and same_bytes):
                    failures += 1
                    print(f"image {index} ({description}), -S {sparse_size}: "
                          f"{'maps' if same_bytes else 'bytes'} differ")
                    if arguments.keep:
                        print(f"kept in {folder}")
                        return 1
                os.unlink(ours)
                os.unlink(theirs)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)
    print(f"{arguments.images} images x {len(SPARSE_SIZES)} sizes, seed {arguments.seed}: "
          f"{failures} differ")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
