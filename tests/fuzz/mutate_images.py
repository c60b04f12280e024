#!/usr/bin/env python3
"""Damages real images at random and runs every command on them.

A command may fail on a damaged image, but in a defined way: an exit status of its contract, words on
stderr, no signal, no sanitizer report, no hang. The same seed makes the same sequence of images; a
failure prints what was done and keeps the image.
"""
import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

IMAGES = pathlib.Path(__file__).resolve().parents[2] / 'images'
COMPANIONS = ('chain-base.raw', 'chain-mid.qcow2', 'datafile.data')
MAX_IMAGE_BYTES = 1 << 20
MAX_DISK_BYTES = 1 << 32
RUN_SECONDS = 60
OFFSET_MASK = 0x00fffffffffffe00

HEADER_FIELDS = {4: 4, 8: 8, 16: 4, 20: 4, 24: 8, 32: 4, 36: 4, 40: 8, 48: 8, 56: 4, 60: 4, 64: 8,
                 72: 8, 80: 8, 88: 8, 96: 4, 100: 4}
VALUES = [0, 1, 2, 3, 7, 8, 9, 16, 21, 22, 64, 104, 105, 112, 511, 512, 1023, 1024, 4096, 65535,
          65536, 65537, 1 << 20, 4194304, 4194305, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40,
          1 << 55, (1 << 56) - 512, 1 << 56, 1 << 62, (1 << 63) - 512, (1 << 63) - 1, 1 << 63,
          (1 << 64) - 65536, (1 << 64) - 512, (1 << 64) - 1]


class Image:
    """The bytes of an image, with the few fields that lead to its tables."""

    def __init__(self, data):
        self.data = bytearray(data)

    def get(self, offset, size):
        if offset + size > len(self.data):
            return 0
        return int.from_bytes(self.data[offset:offset + size], 'big')

    def put(self, offset, size, value):
        if offset + size <= len(self.data):
            value &= (1 << 8 * size) - 1
            self.data[offset:offset + size] = value.to_bytes(size, 'big')

    def cluster_size(self):
        bits = self.get(20, 4)
        return 1 << bits if 9 <= bits <= 21 else 65536

    def l1(self):
        return range(self.get(40, 8), self.get(40, 8) + 8 * min(self.get(36, 4), 64), 8)

    def l2(self):
        tables = [self.get(entry, 8) & OFFSET_MASK for entry in self.l1()]
        return [entry for table in tables if table
                for entry in range(table, min(table + self.cluster_size(), len(self.data)), 8)
                if self.get(entry, 8)]

    def refcounts(self):
        table = self.get(48, 8)
        block = self.get(table, 8)
        return [table, table + 8] + list(range(block, block + 64, 8))

    def snapshots(self):
        table = self.get(64, 8)
        return list(range(table, table + 64, 4)) if self.get(60, 4) else []

    def extensions(self):
        offset = self.get(100, 4) if self.get(4, 4) == 3 else 72
        entries = list(range(offset, offset + 64, 4))
        bitmaps = self.data.find(b'\x23\x85\x28\x75', 72, 4096)
        if bitmaps >= 0:
            directory = self.get(bitmaps + 24, 8)
            entries += list(range(directory, directory + 32, 4))
        return entries


def wrong_value(rnd, image, old):
    kind = rnd.randrange(5)
    if kind == 0:
        return rnd.choice(VALUES)
    if kind == 1:
        return old ^ (1 << rnd.randrange(64))
    if kind == 2:
        return old + rnd.choice([-1, 1, 512, -512, 65536, -65536])
    if kind == 3:
        return rnd.randrange(len(image.data) + 1) & ~511 | rnd.randrange(4) << 62
    return rnd.getrandbits(64)


def damage(rnd, image):
    """Applies one change; returns its description."""
    kind = rnd.choice(['header', 'header', 'l1', 'l2', 'l2', 'refcounts', 'snapshots', 'extensions',
                       'cut', 'byte'])
    if kind == 'cut':
        length = rnd.randrange(len(image.data) + 1)
        del image.data[length:]
        return f'cut at {length}'
    if kind == 'byte':
        offset = rnd.randrange(max(1, len(image.data)))
        image.put(offset, 1, rnd.randrange(256))
        return f'byte at {offset}'
    if kind == 'header':
        offset, size = rnd.choice(list(HEADER_FIELDS.items()))
    else:
        places = list(getattr(image, kind)())
        if not places:
            return 'nothing'
        offset, size = rnd.choice(places), 4 if kind in ('snapshots', 'extensions') else 8
    value = wrong_value(rnd, image, image.get(offset, size))
    image.put(offset, size, value)
    return f'{kind} at {offset}: {value & (1 << 8 * size) - 1:#x}'


def commands(image):
    """Arguments and the exit statuses that they may have."""
    converts = [['-O', 'raw'], ['-O', 'qcow2'], ['-O', 'qcow2', '-c'], ['-W', '-O', 'raw'],
                ['--salvage', '-O', 'raw'], ['-l', '1', '-O', 'raw']]
    runs = [(['info', image], (0, 1)), (['info', '--output=json', '--backing-chain', image], (0, 1)),
            (['check', image], (0, 1, 2, 3, 63)), (['map', '--output=json', image], (0, 1)),
            (['compare', image, 'chain-base.raw'], (0, 1, 2, 3, 4)),
            (['measure', '-O', 'qcow2', image], (0, 1)),
            (['create', '-f', 'qcow2', '-F', 'qcow2', '-b', image, 'out'], (0, 1))]
    runs += [(['convert', *options, image, 'out'], (0, 1)) for options in converts]
    runs += [(['convert', '-n', *options, '-O', 'qcow2', 'chain-base.raw', image], (0, 1))
             for options in ([], ['-c'], ['-W'])]
    return runs


def complaint(program, arguments, allowed, folder):
    try:
        result = subprocess.run([program, *arguments], cwd=folder, capture_output=True,
                                timeout=RUN_SECONDS)
    except subprocess.TimeoutExpired:
        return f'still running after {RUN_SECONDS} s'
    errors = result.stderr.decode(errors='replace')
    if result.returncode not in allowed:
        return f'exit status {result.returncode}: {errors}'
    if 'Sanitizer' in errors or 'runtime error' in errors:
        return errors
    is_verdict = arguments[0] in ('check', 'compare')
    if result.returncode != 0 and not errors and not is_verdict:
        return f'exit status {result.returncode} without a word'
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--imgconv', required=True)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--seconds', type=float, default=15)
    options = parser.parse_args()
    program = os.path.abspath(options.imgconv)
    rnd = random.Random(options.seed)
    sources = [path for path in sorted(IMAGES.glob('*.qcow2'))
               if path.stat().st_size <= MAX_IMAGE_BYTES]
    deadline = time.monotonic() + options.seconds
    folder = pathlib.Path(tempfile.mkdtemp())
    for name in COMPANIONS:
        shutil.copy(IMAGES / name, folder)
    runs = 0
    while time.monotonic() < deadline:
        source = rnd.choice(sources)
        image = Image(source.read_bytes())
        changes = [damage(rnd, image) for _ in range(rnd.choice([1, 1, 2, 3, 8]))]
        if image.get(24, 8) > MAX_DISK_BYTES:
            continue
        for arguments, allowed in rnd.sample(commands('image.qcow2'), 5):
            # Writing commands change it.
            (folder / 'image.qcow2').write_bytes(image.data)
            (folder / 'out').unlink(missing_ok=True)
            problem = complaint(program, arguments, allowed, folder)
            runs += 1
            if problem:
                (folder / 'image.qcow2').write_bytes(image.data)
                print(f'{source.name} with {changes}, kept in {folder}:\n{arguments}: {problem}')
                return 1
    shutil.rmtree(folder)
    print(f'{runs} runs on damaged images')
    return 0


if __name__ == '__main__':
    sys.exit(main())
