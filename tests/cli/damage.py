"""The kinds of damage that repair_differential.py repairs: name, base image, what is done to it."""
from damage_bases import COMPRESSED, COPIED, OFFSET_MASK

DAMAGES = []


def damage(base, name=None):
    def register(function):
        DAMAGES.append((name or function.__name__, base, function))
        return function
    return register


def each(bases):
    def register(function):
        for base in bases:
            DAMAGES.append((f"{function.__name__}_{base}", base, function))
        return function
    return register


# ---- Refcounts ----

@each(["plain", "v2", "small", "rc64", "ext", "snap", "comp"])
def leak(image):
    image.set_refcount(image.length // image.cluster_size - 1, 9)


@each(["plain", "rc1", "rc64"])
def leak_of_unused_cluster(image):
    image.truncate((image.length // image.cluster_size + 3) * image.cluster_size)
    image.set_refcount(image.length // image.cluster_size - 2, 1)


@damage("snap")
def refcount_too_low(image):
    image.set_refcount(image.data_cluster(0), 2)


@damage("snap")
def refcount_of_shared_l2_too_low(image):
    image.set_refcount((image.get(image.l1, 8) & OFFSET_MASK) // image.cluster_size, 1)


@each(["plain", "small", "rc1", "rc64", "ext", "comp", "bitmaps", "lazy"])
def refcount_of_data_lost(image):
    image.set_refcount(image.length // image.cluster_size - 1, 0)


@each(["plain", "small"])
def refcount_of_header_lost(image):
    image.set_refcount(0, 0)


@damage("plain")
def refcount_of_l1_lost(image):
    image.set_refcount(image.l1 // image.cluster_size, 0)


@each(["plain", "small", "rc1"])
def refcount_of_block_lost(image):
    image.set_refcount(image.block() // image.cluster_size, 0)


@damage("plain")
def leak_and_too_low(image):
    image.set_refcount(image.data_cluster(0), 3)
    image.set_refcount(image.data_cluster(2), 0)


@damage("comp")
def compressed_refcount_too_low(image):
    image.set_refcount(5, 1)


@damage("comp")
def compressed_refcount_too_high(image):
    image.set_refcount(5, 60000)


@each(["plain", "snap", "rc64"])
def all_refcounts_zero(image):
    image.put_bytes(image.block(), bytes(image.cluster_size))


@each(["plain", "snap", "rc1"])
def all_refcounts_garbage(image):
    image.put_bytes(image.block(), bytes(range(256)) * (image.cluster_size // 256))


# ---- Refcount table and blocks ----

@each(["plain", "small", "snap"])
def table_entry_zero(image):
    image.put(image.table, 8, 0)


@each(["plain", "small"])
def table_entry_reserved_bits(image):
    image.put(image.table, 8, image.block() | 1)


@each(["plain", "small", "rc1"])
def block_unaligned(image):
    image.put(image.table, 8, image.block() + 512 if image.cluster_size > 512 else 513)


@damage("plain")
def block_unaligned_second(image):
    image.put(image.table + 8, 8, 512)


@each(["plain", "small"])
def block_outside(image):
    image.put(image.table + 8 * 20, 8, image.length + 7 * image.cluster_size)


@damage("plain")
def block_far_outside(image):
    image.put(image.table + 8 * 20, 8, 1 << 44)


@damage("plain")
def block_beyond_63_bits(image):
    image.put(image.table + 8 * 20, 8, 0xFFFFFFFFFFFF0000)


@damage("plain")
def first_block_outside(image):
    image.put(image.table, 8, image.length + 7 * image.cluster_size)


@each(["plain", "small"])
def block_used_twice(image):
    image.put(image.table + 8 * 20, 8, image.block())


@damage("plain")
def block_is_header(image):
    image.put(image.table, 8, image.cluster_size << 40)
    image.put(image.table + 8, 8, image.cluster_size * 0)
    image.put(image.table, 8, image.table)


@damage("plain")
def block_is_l1(image):
    image.put(image.table, 8, image.l1)


@damage("plain")
def block_is_data(image):
    image.put(image.table, 8, image.data_cluster(0) * image.cluster_size)


@each(["plain", "small", "snap"])
def table_all_zero(image):
    image.put_bytes(image.table, bytes(image.cluster_size * image.get(56, 4)))


@damage("plain")
def table_random(image):
    image.put_bytes(image.table, bytes((i * 37 + 11) % 256 for i in range(512)))


@each(["plain", "snap"])
def no_table(image):
    image.put(56, 4, 0)


@damage("plain")
def table_beyond_file(image):
    image.put(48, 8, image.length + 16 * image.cluster_size)


@damage("plain")
def table_is_l1(image):
    image.put(48, 8, image.l1)


@damage("plain")
def table_is_header(image):
    image.put(48, 8, 0)


@damage("plain")
def table_too_long(image):
    image.put(56, 4, 20)


@damage("plain")
def table_offset_unaligned(image):
    image.put(48, 8, image.table + 512)


# ---- L1 ----

@each(["plain", "small", "snap"])
def l1_not_copied(image):
    image.put(image.l1, 8, image.get(image.l1, 8) & ~COPIED)


@damage("snap")
def l1_wrongly_copied(image):
    image.put(image.l1, 8, image.get(image.l1, 8) ^ COPIED)


@damage("plain")
def l1_reserved_bits(image):
    image.put(image.l1, 8, image.get(image.l1, 8) | 0x0100000000000003)


@damage("plain")
def l1_unaligned(image):
    image.put(image.l1, 8, image.get(image.l1, 8) + 512)


@damage("plain")
def l1_outside(image):
    image.put(image.l1, 8, COPIED | 1 << 40)


@damage("small")
def l1_twice_the_same_table(image):
    image.put(image.l1 + 8, 8, image.get(image.l1, 8))


@damage("plain")
def l1_points_to_header(image):
    image.put(image.l1_slot(), 8, COPIED | image.cluster_size)


@damage("plain")
def l1_points_to_refblock(image):
    image.put(image.l1_slot(), 8, COPIED | image.block())


@damage("plain")
def l1_points_to_itself(image):
    image.put(image.l1_slot(), 8, COPIED | image.l1)


# ---- L2 ----

@each(["plain", "small", "v2", "ext"])
def l2_not_copied(image):
    image.put_l2(0, image.l2(0) & ~COPIED)


@damage("snap")
def l2_wrongly_copied(image):
    image.put_l2(0, image.l2(0) | COPIED)


@damage("plain")
def l2_not_copied_and_leak(image):
    image.put_l2(0, image.l2(0) & ~COPIED)
    image.set_refcount(image.data_cluster(2), 2)


@damage("plain")
def l2_not_copied_and_too_low(image):
    image.put_l2(0, image.l2(0) & ~COPIED)
    image.put_l2(5, image.l2(2))
    image.set_refcount(image.length // image.cluster_size - 1, 5)


@damage("plain")
def l2_reserved_bits(image):
    image.put_l2(0, image.l2(0) | 0x0200000000000002)


@each(["plain", "small", "rc1"])
def l2_two_guest_clusters_share(image):
    image.put_l2(9, image.l2(0))


@each(["plain", "ext"])
def l2_data_unaligned(image):
    image.put_l2(0, image.l2(0) + 512)


@each(["plain", "v2"])
def l2_prealloc_zero_unaligned(image):
    image.put_l2(2, (image.l2(2) + 512) | 1)


@damage("snap", "l2_prealloc_zero_unaligned_in_snapshot")
def l2_prealloc_zero_unaligned_snap(image):
    table = image.get(image.get(image.snapshot_slots()[0], 8), 8) & OFFSET_MASK
    image.put(table, 8, (image.get(table, 8) + 512) | 1)


@damage("ext")
def ext_prealloc_zero_unaligned(image):
    image.put_l2(0, image.l2(0) + 512)
    image.put(image.l2_slot(0) + 8, 8, 0)


@damage("ext")
def ext_contradiction(image):
    image.put(image.l2_slot(0) + 8, 8, 0x00000003FFFFFFFF)


@damage("ext")
def ext_unallocated_with_bitmap(image):
    image.put(image.l2_slot(6) + 8, 8, 0x5)


@damage("ext")
def ext_compressed_with_bitmap(image):
    image.put_l2(0, COMPRESSED | (image.l2(0) & OFFSET_MASK))


@damage("comp")
def compressed_copied(image):
    image.put_l2(3, image.l2(3) | COPIED)


@damage("comp")
def compressed_outside(image):
    image.put_l2(3, COMPRESSED | 1 << 42)


@damage("comp")
def compressed_sectors_too_many(image):
    image.put_l2(3, image.l2(3) | 0x3FC0000000000000)


@damage("data")
def compressed_with_data_file(image):
    image.put_l2(0, COMPRESSED | 0x50000)


@damage("data")
def data_file_not_copied(image):
    image.put_l2(2, image.l2(2) & ~COPIED)


@damage("plain")
def l2_outside(image):
    image.put_l2(0, COPIED | 1 << 45)


@damage("plain")
def l2_points_to_l1(image):
    image.put_l2(0, COPIED | image.l1)


@damage("plain")
def l2_points_to_header(image):
    image.put_l2(0, COPIED | 512)


@damage("plain")
def l2_points_to_refblock(image):
    image.put_l2(0, COPIED | image.block())


@damage("plain")
def l2_points_to_table(image):
    image.put_l2(0, COPIED | image.table)


@damage("v2")
def l2_zero_bit_in_v2(image):
    image.put_l2(1, 1)


@each(["plain", "small"])
def l2_garbage(image):
    start = image.l2_slot(0)
    image.put_bytes(start, bytes((i * 73 + 5) % 256 for i in range(256)))


@each(["plain", "snap", "small"])
def file_cut(image):
    image.truncate(image.length * 3 // 4 // 512 * 512)


@damage("plain")
def file_cut_in_tables(image):
    image.truncate(image.l1 + 100)


# ---- Header ----

@each(["plain", "lazy", "snap"])
def dirty(image):
    image.set_feature(0)


@damage("lazy")
def dirty_with_lost_refcounts(image):
    image.set_feature(0)
    image.set_refcount(image.length // image.cluster_size - 1, 0)


@damage("lazy")
def dirty_with_leak(image):
    image.set_feature(0)
    image.set_refcount(image.length // image.cluster_size - 1, 7)


@damage("plain")
def corrupt_bit(image):
    image.set_feature(1)


@damage("plain")
def corrupt_bit_and_damage(image):
    image.set_feature(1)
    image.put_l2(0, image.l2(0) + 512)


@damage("plain")
def dirty_and_damage(image):
    image.set_feature(0)
    image.put_l2(0, image.l2(0) + 512)


@damage("plain")
def unknown_autoclear(image):
    image.put(88, 8, 1 << 7)
    image.set_refcount(image.length // image.cluster_size - 1, 7)
