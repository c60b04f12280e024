"""Small images of the genuine tools, and a way to damage them: Qcow2File knows the layout of a qcow2
file from the specification alone and pokes bytes. It shares nothing with formats/."""
import os
import struct
import subprocess

KIB = 1 << 10
MIB = 1 << 20
COPIED = 1 << 63
COMPRESSED = 1 << 62
OFFSET_MASK = 0x00FFFFFFFFFFFE00
WRITES = ["write -P 1 0 64k", "write -P 2 128k 192k", "write -z 512k 64k", "write -z -u 640k 64k",
          "write -P 4 900k 20k", "write -P 5 3M 100k"]


class Qcow2File:
    """Fields are read anew each time: nothing is cached, everything may be a lie."""

    def __init__(self, path):
        self.file = open(path, "r+b")
        self.cluster_bits = self.get(20, 4)
        self.cluster_size = 1 << self.cluster_bits
        self.version = self.get(4, 4)
        self.refcount_bits = 1 << (self.get(96, 4) if self.version >= 3 else 4)
        self.l2_entry_bytes = 16 if self.version >= 3 and self.get(72, 8) & 16 else 8

    def close(self):
        self.file.close()

    def get(self, offset, size):
        self.file.seek(offset)
        return int.from_bytes(self.file.read(size), "big")

    def put(self, offset, size, value):
        self.file.seek(offset)
        self.file.write(value.to_bytes(size, "big"))

    def put_bytes(self, offset, data):
        self.file.seek(offset)
        self.file.write(data)

    @property
    def length(self):
        return os.fstat(self.file.fileno()).st_size

    def truncate(self, length):
        self.file.flush()
        self.file.truncate(length)

    @property
    def l1(self):
        return self.get(40, 8)

    @property
    def table(self):
        return self.get(48, 8)

    @property
    def snapshots(self):
        return self.get(64, 8)

    def l1_slot(self, index=0):
        return self.l1 + 8 * index

    def l2_slot(self, guest_cluster):
        entries = self.cluster_size // self.l2_entry_bytes
        table = self.get(self.l1_slot(guest_cluster // entries), 8) & OFFSET_MASK
        return table + guest_cluster % entries * self.l2_entry_bytes

    def l2(self, guest_cluster):
        return self.get(self.l2_slot(guest_cluster), 8)

    def put_l2(self, guest_cluster, value):
        self.put(self.l2_slot(guest_cluster), 8, value)

    def data_cluster(self, guest_cluster):
        return (self.l2(guest_cluster) & OFFSET_MASK) >> self.cluster_bits

    def block(self, index=0):
        return self.get(self.table + 8 * index, 8)

    def set_refcount(self, host_cluster, count):
        bits = self.refcount_bits
        per_block = self.cluster_size * 8 // bits
        block = self.block(host_cluster // per_block)
        index = host_cluster % per_block
        if bits >= 8:
            self.put(block + index * bits // 8, bits // 8, count)
            return
        position = block + index * bits // 8
        shift = index * bits % 8
        mask = ((1 << bits) - 1) << shift
        self.put(position, 1, (self.get(position, 1) & ~mask) | (count << shift))

    def snapshot_slots(self):
        """Offsets of the entries of the snapshot table."""
        slots = []
        position = self.snapshots
        for _ in range(self.get(60, 4)):
            position = -(-position // 8) * 8
            slots.append(position)
            sizes = self.get(position + 12, 2) + self.get(position + 14, 2)
            position += 40 + self.get(position + 36, 4) + sizes
        return slots

    def bitmaps_extension(self):
        """Offset of the data of the bitmaps extension."""
        position = self.get(100, 4)
        while True:
            kind, size = self.get(position, 4), self.get(position + 4, 4)
            if kind == 0x23852875:
                return position + 8
            assert kind != 0
            position += 8 + -(-size // 8) * 8

    def bitmap_directory(self):
        return self.get(self.bitmaps_extension() + 16, 8)

    def set_feature(self, bit):
        self.put(72, 8, self.get(72, 8) | 1 << bit)


class Bases:
    """Makes each base once, in the current folder."""

    def __init__(self, qemu_img):
        self.qemu_img = qemu_img
        self.qemu_io = os.path.join(os.path.dirname(qemu_img), "qemu-io")

    def img(self, *words):
        subprocess.run([self.qemu_img, *words], check=True, stdout=subprocess.DEVNULL)

    def io(self, name, *commands):
        words = [word for command in commands for word in ("-c", command)]
        subprocess.run([self.qemu_io, "-f", "qcow2", *words, name], check=True,
                       stdout=subprocess.DEVNULL)

    def create(self, name, options="", size="4M", writes=WRITES):
        self.img("create", "-q", "-f", "qcow2", *(["-o", options] if options else []), name, size)
        if writes:
            self.io(name, *writes)

    def make_all(self):
        self.create("plain")
        self.create("v2", "compat=0.10", writes=[w for w in WRITES if "-z" not in w])
        # Two refcount blocks and several L2 tables.
        self.create("small", "cluster_size=512", writes=WRITES)
        self.create("rc1", "refcount_bits=1,cluster_size=4k")
        self.create("rc64", "refcount_bits=64,cluster_size=4k")
        self.create("ext", "extended_l2=on,cluster_size=16k")
        self.create("empty", writes=[])
        self.create("lazy", "lazy_refcounts=on")
        self.create("snap")
        for number in range(3):
            self.img("snapshot", "-c", f"snap{number}", "snap")
            self.io("snap", f"write -P {40 + number} 128k 64k", f"write -P 9 {1 + number}M 64k")
        self.img("create", "-q", "-f", "qcow2", "-o", "data_file=data.raw,data_file_raw=on", "data",
                 "4M")
        self.io("data", *WRITES)
        self.create("bitmaps")
        for name in ("b0", "b1"):
            self.img("bitmap", "--add", "bitmaps", name)
        self.io("bitmaps", "write -P 8 2M 64k")
        with open("half.raw", "wb") as file:
            for number in range(64):
                file.write(os.urandom(0) + struct.pack("<I", number) * 8192 + b"\0" * 32768)
        self.img("convert", "-c", "-f", "raw", "-O", "qcow2", "half.raw", "comp")
        return ["plain", "v2", "small", "rc1", "rc64", "ext", "empty", "lazy", "snap", "data",
                "bitmaps", "comp"]
