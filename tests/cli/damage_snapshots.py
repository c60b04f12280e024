"""More kinds of damage (damage.py): to snapshots and bitmaps, and none at all."""
from damage import damage, each
from damage_bases import MIB


# ---- Snapshots ----

@damage("snap")
def snapshot_incomplete(image):
    # The extra data of the last entry becomes part of its id.
    slot = image.snapshot_slots()[-1]
    sizes = image.get(slot + 12, 2) + image.get(slot + 14, 2)
    texts = image.get(slot + 40 + 24, sizes)
    image.put(slot + 36, 4, 8)
    image.put(slot + 48, sizes, texts)


@damage("snap")
def snapshot_without_extra(image):
    slot = image.snapshot_slots()[-1]
    sizes = image.get(slot + 12, 2) + image.get(slot + 14, 2)
    texts = image.get(slot + 40 + 24, sizes)
    image.put(slot + 36, 4, 0)
    image.put(slot + 40, sizes, texts)


@damage("snap")
def snapshot_extra_too_long(image):
    slot = image.snapshot_slots()[-1]
    sizes = image.get(slot + 12, 2) + image.get(slot + 14, 2)
    texts = image.get(slot + 40 + 24, sizes)
    image.put(slot + 36, 4, 2000)
    image.put_bytes(slot + 64, bytes(2000 - 24))
    image.put(slot + 40 + 2000, sizes, texts)


@damage("snap")
def snapshot_extra_too_long_and_incomplete(image):
    snapshot_extra_too_long(image)
    # The entry keeps its length: the rest of the extra data becomes part of the id.
    slot = image.snapshot_slots()[0]
    image.put(slot + 36, 4, 8)
    image.put(slot + 12, 2, image.get(slot + 12, 2) + 16)


@damage("snap")
def snapshot_extra_gigantic(image):
    image.put(image.snapshot_slots()[0] + 36, 4, 0xFFFFFFFF)


@damage("plain")
def snapshots_too_many(image):
    image.put(60, 4, 65540)
    image.put(64, 8, image.length + 2 * image.cluster_size)
    image.truncate(image.length + 100 * image.cluster_size)


@damage("snap")
def snapshot_table_unaligned(image):
    image.put(64, 8, image.snapshots + 8)


@damage("snap")
def snapshot_table_outside(image):
    image.put(64, 8, 1 << 45)


@damage("snap")
def snapshot_l1_unaligned(image):
    slot = image.snapshot_slots()[1]
    image.put(slot, 8, image.get(slot, 8) + 512)


@damage("snap")
def snapshot_l1_too_large(image):
    image.put(image.snapshot_slots()[1] + 8, 4, 1 << 24)


@damage("snap")
def snapshot_l1_outside(image):
    image.put(image.snapshot_slots()[1], 8, 1 << 45)


@damage("snap")
def snapshot_l1_empty(image):
    image.put(image.snapshot_slots()[1] + 8, 4, 0)


@damage("plain")
def snapshots_in_header(image):
    image.put(60, 4, 1)


@damage("small")
def too_many_snapshots_in_header(image):
    image.put(60, 4, 0xFFFFFFFF)


@damage("snap")
def snapshot_count_too_low(image):
    image.put(60, 4, 1)


@damage("snap")
def snapshot_count_too_high(image):
    image.put(60, 4, 4)


@damage("data")
def snapshots_with_data_file(image):
    image.put(60, 4, 1)
    image.put(64, 8, 2 * image.cluster_size)


@damage("snap")
def snapshot_incomplete_and_lost_refcounts(image):
    snapshot_without_extra(image)
    image.put_bytes(image.block(), bytes(image.cluster_size))


# ---- Bitmaps ----

@damage("bitmaps")
def bitmap_directory_broken(image):
    image.put(image.bitmap_directory() + 16, 1, 9)


@damage("bitmaps")
def bitmap_table_outside(image):
    image.put(image.bitmap_directory(), 8, 1 << 45)


@damage("bitmaps")
def bitmap_table_entry_bad(image):
    image.put(image.get(image.bitmap_directory(), 8), 8, 0x203)


@damage("bitmaps")
def bitmap_table_unaligned(image):
    directory = image.bitmap_directory()
    image.put(directory, 8, image.get(directory, 8) + 512)


@damage("bitmaps")
def bitmap_feature_bit_lost(image):
    image.put(88, 8, 0)


@damage("bitmaps")
def bitmap_in_use(image):
    image.put(image.bitmap_directory() + 12, 4, 3)


@damage("bitmaps")
def bitmaps_and_lost_refcounts(image):
    image.put_bytes(image.block(), bytes(image.cluster_size))


# ---- Nothing ----

@each(["plain", "v2", "small", "rc1", "ext", "snap", "data", "bitmaps", "comp", "empty"])
def nothing(_image):
    pass


@damage("empty")
def size_zero_l1(image):
    image.truncate(image.length + MIB)
