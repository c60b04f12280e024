"""Reads the persistent bitmaps of a qcow2 file from its bytes (QCOW2.md 9), independently of both tools."""
import struct

BITMAPS_EXTENSION = 0x23852875
IN_USE = 1
AUTO = 2


class Bitmap:
    def __init__(self, name, flags, granularity_bits, bits):
        self.name = name
        self.flags = flags
        self.granularity_bits = granularity_bits
        # Bit i of the number is bit i of the bitmap. Nothing for a bitmap in use.
        self.bits = bits

    def state(self):
        return (self.name, self.flags, self.granularity_bits, self.bits)

    def __repr__(self):
        dirty = "?" if self.bits is None else bin(self.bits).count("1")
        return f"{self.name}: flags {self.flags}, 2^{self.granularity_bits}, {dirty} dirty"


def find_extension(data):
    """(position of the extension's data) or None."""
    at = struct.unpack_from(">I", data, 100)[0] if struct.unpack_from(">I", data, 4)[0] >= 3 else 72
    # They end at the name of the backing file, if no end is marked.
    end = struct.unpack_from(">Q", data, 8)[0] or len(data)
    while at + 8 <= end:
        kind, length = struct.unpack_from(">II", data, at)
        if kind == 0:
            return None
        if kind == BITMAPS_EXTENSION:
            return at + 8
        at += 8 + (length + 7) // 8 * 8
    return None


def entries(data):
    """(offset of the entry, its fields, its name) for each entry of the directory."""
    extension = find_extension(data)
    if extension is None or not struct.unpack_from(">Q", data, 88)[0] & 1:
        return
    count, reserved, size, at = struct.unpack_from(">IIQQ", data, extension)
    assert reserved == 0 and count > 0
    end = at + size
    for _ in range(count):
        fields = struct.unpack_from(">QIIBBHI", data, at)
        name_length, extra = fields[5], fields[6]
        yield at, fields, data[at + 24 + extra:at + 24 + extra + name_length].decode()
        at += (24 + extra + name_length + 7) // 8 * 8
    assert at == end, "the directory is not as long as the header says"


def read_bits(data, fields):
    table, table_entries, _, _, granularity_bits = fields[:5]
    cluster_size = 1 << struct.unpack_from(">I", data, 20)[0]
    disk = struct.unpack_from(">Q", data, 24)[0] // 512 * 512
    count = -(-disk >> granularity_bits)
    content = b""
    for entry in struct.unpack_from(f">{table_entries}Q", data, table):
        if entry > 1:
            content += data[entry:entry + cluster_size].ljust(cluster_size, b"\0")
        else:
            content += (b"\xff" if entry else b"\0") * cluster_size
    return int.from_bytes(content, "little") & ((1 << count) - 1)


def read_bitmaps(path):
    with open(path, "rb") as file:
        data = file.read()
    found = []
    for _, fields, name in entries(data):
        flags = fields[2]
        bits = None if flags & IN_USE else read_bits(data, fields)
        found.append(Bitmap(name, flags, fields[4], bits))
    return found


def set_in_use(path, name):
    """As a writer leaves a bitmap that dies before it stores it."""
    with open(path, "r+b") as file:
        data = file.read()
        for at, fields, entry_name in entries(data):
            if entry_name == name:
                file.seek(at + 12)
                file.write(struct.pack(">I", fields[2] | IN_USE))


def clear_feature(path):
    """As a program leaves an image that it changed without knowing of bitmaps."""
    with open(path, "r+b") as file:
        file.seek(95)
        last = file.read(1)[0]
        file.seek(95)
        file.write(bytes([last & ~1]))
