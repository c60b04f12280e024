"""The images that differential.py asks about, made by the genuine tools in the current folder."""
import os
import subprocess

MIB = 1 << 20
# qemu-io commands on a disk of 1 MiB or more: data, both kinds of zero clusters, a partial cluster.
USUAL_WRITES = ["write -P 1 0 64k", "write -P 2 128k 100k", "write -P 3 300k 4k",
                "write -z 512k 64k", "write -z -u 640k 64k", "write -P 4 900k 20k"]


class Maker:
    def __init__(self, qemu_img):
        self.qemu_img = qemu_img
        self.qemu_io = os.path.join(os.path.dirname(qemu_img), "qemu-io")
        self.names = []

    def img(self, *words):
        subprocess.run([self.qemu_img, *words], check=True, stdout=subprocess.DEVNULL)

    def write(self, name, commands, form="qcow2"):
        words = [word for command in commands for word in ("-c", command)]
        subprocess.run([self.qemu_io, "-f", form, *words, name], check=True,
                       stdout=subprocess.DEVNULL)

    def create(self, name, size="4M", options="", backing=None, writes=()):
        words = ["-o", options] if options else []
        if backing:
            words += ["-u", "-b", backing[0], "-F", backing[1]]
        self.img("create", "-q", "-f", "qcow2", *words, name, size)
        if writes:
            self.write(name, writes)
        self.names.append(name)

    def raw(self, name, size, pieces=()):
        with open(name, "wb") as file:
            for offset, data in pieces:
                file.seek(offset)
                file.write(data)
            file.truncate(size)
        self.names.append(name)


def patch(name, offset, data):
    with open(name, "r+b") as file:
        file.seek(offset)
        file.write(data)


def make_raw_images(make):
    make.raw("disk.raw", 4 * MIB, [(0, b"\1" * 65536), (MIB, b"data" * 5000), (3 * MIB, b"x")])
    make.raw("odd.raw", 1000, [(0, b"y" * 1000)])
    make.raw("odd-hole.raw", 100001, [(50000, b"y")])
    make.raw("empty.raw", 0)
    make.raw("hole.raw", 10 * MIB)


def make_plain_qcow2(make):
    make.create("base.qcow2", writes=USUAL_WRITES)
    make.create("base,with,commas.qcow2")
    make.create("empty.qcow2", "64M")
    make.create("size0.qcow2", "0")
    make.create("odd-size.qcow2", "1000", writes=["write -P 1 0 512"])
    make.create("v2.qcow2", options="compat=0.10", writes=USUAL_WRITES)
    for size in ("512", "4k", "2M"):
        make.create(f"clusters-{size}.qcow2", options=f"cluster_size={size}", writes=USUAL_WRITES)
    for bits in (1, 8, 64):
        make.create(f"refcount-{bits}.qcow2", options=f"refcount_bits={bits}", writes=USUAL_WRITES)
    make.create("lazy.qcow2", options="lazy_refcounts=on", writes=USUAL_WRITES)
    make.create("dirty.qcow2", options="lazy_refcounts=on", writes=USUAL_WRITES)
    patch("dirty.qcow2", 79, b"\1")
    make.create("extl2.qcow2", options="extended_l2=on", writes=USUAL_WRITES)
    make.create("extl2-16k.qcow2", options="extended_l2=on,cluster_size=16k",
                writes=USUAL_WRITES + ["write -P 9 0 512", "write -z 130k 2k"])
    for mode in ("metadata", "falloc", "full"):
        make.create(f"prealloc-{mode}.qcow2", options=f"preallocation={mode}",
                    writes=["write -P 1 1M 64k"])
    make.create("data-file.qcow2", options="data_file=data-file.data", writes=USUAL_WRITES)
    make.create("data-file-raw.qcow2", options="data_file=data-file-raw.data,data_file_raw=on",
                writes=USUAL_WRITES)
    make.create("fragmented.qcow2", writes=["write -P 1 1M 64k", "write -P 2 0 64k",
                                            "write -P 3 512k 128k", "write -P 4 64k 64k"])
    make.create("discarded.qcow2", writes=USUAL_WRITES + ["discard 0 64k", "discard 128k 64k"])


def make_compressed(make):
    for name, options in (("zlib", ""), ("zstd", "compression_type=zstd"),
                          ("zlib-512", "cluster_size=512"), ("zlib-v2", "compat=0.10")):
        words = ["-o", options] if options else []
        make.img("convert", "-c", "-f", "raw", "-O", "qcow2", *words, "disk.raw", f"{name}.qcow2")
        make.names.append(f"{name}.qcow2")
    make.create("mixed.qcow2", writes=["write -c -P 1 0 64k", "write -P 2 64k 64k",
                                       "write -c -P 3 128k 64k", "write -c -P 4 192k 64k"])


def make_chains(make):
    make.create("top.qcow2", backing=("base.qcow2", "qcow2"), writes=["write -P 7 1M 64k"])
    make.create("longer.qcow2", "6M", backing=("base.qcow2", "qcow2"), writes=["write -P 8 5M 64k"])
    make.create("shorter.qcow2", "200k", backing=("base.qcow2", "qcow2"))
    make.create("third.qcow2", "8M", backing=("longer.qcow2", "qcow2"), writes=["write -z 0 64k"])
    make.create("on-raw.qcow2", backing=("disk.raw", "raw"), writes=["write -P 9 64k 64k"])
    make.create("on-odd-raw.qcow2", backing=("odd-hole.raw", "raw"))
    make.create("extl2-top.qcow2", options="extended_l2=on", backing=("base.qcow2", "qcow2"),
                writes=["write -P 7 1M 2k", "write -z 128k 2k"])
    make.create("small-clusters-top.qcow2", options="cluster_size=4k",
                backing=("base.qcow2", "qcow2"), writes=["write -P 7 4k 4k"])
    os.mkdir("folder")
    make.create("folder/relative.qcow2", backing=("../base.qcow2", "qcow2"))
    make.create("absolute.qcow2", backing=(os.path.abspath("base.qcow2"), "qcow2"))
    make.create("no-base.qcow2", backing=("nothere.qcow2", "qcow2"))
    make.create("json-base.qcow2", backing=(
        'json:{"driver":"qcow2","file":{"driver":"file","filename":"base.qcow2"}}', "qcow2"))
    make.create("colon-base.qcow2", backing=("file:base.qcow2", "qcow2"))
    make.create("loop-a.qcow2", backing=("loop-b.qcow2", "qcow2"))
    make.create("loop-b.qcow2", backing=("loop-a.qcow2", "qcow2"))
    # The genuine map and check of a loop exhaust memory: only info is asked, through a third.
    make.names.remove("loop-a.qcow2")
    make.names.remove("loop-b.qcow2")


def make_extras(make):
    make.create("snapshots.qcow2", writes=USUAL_WRITES)
    make.img("snapshot", "-c", "s1", "snapshots.qcow2")
    make.write("snapshots.qcow2", ["write -P 9 0 128k"])
    make.img("snapshot", "-c", "a name of more than sixteen", "snapshots.qcow2")
    make.create("bitmaps.qcow2", writes=USUAL_WRITES)
    make.img("bitmap", "--add", "bitmaps.qcow2", "b0")
    make.img("bitmap", "--add", "-g", "4096", "bitmaps.qcow2", "b1")
    make.img("bitmap", "--disable", "bitmaps.qcow2", "b1")
    for name in ("with space.qcow2", "with,comma.qcow2", "./with:colon.qcow2", "caf\u00e9.qcow2",
                 'quote".qcow2', "back\\slash.qcow2", "\udcff\udcfe.qcow2"):
        make.create(name, "1M", writes=["write -P 1 0 64k"])


def make_damaged(make):
    make.create("leak.qcow2", writes=USUAL_WRITES)
    patch("leak.qcow2", 131072 + 2 * 5, b"\0\2")
    make.create("corrupt.qcow2", writes=USUAL_WRITES)
    patch("corrupt.qcow2", 131072 + 2 * 5, b"\0\0")
    make.create("unknown-feature.qcow2")
    patch("unknown-feature.qcow2", 72, b"\x40")
    make.create("truncated.qcow2", writes=USUAL_WRITES)
    os.truncate("truncated.qcow2", 400000)
    make.raw("garbage.qcow2", 65536, [(0, b"QFI\xfb\0\0\0\3" + b"\xff" * 200)])
    make.raw("only-magic.qcow2", 8, [(0, b"QFI\xfb\0\0\0\3")])


def make_images(qemu_img):
    """Returns the names of the images."""
    make = Maker(qemu_img)
    make_raw_images(make)
    make_plain_qcow2(make)
    make_compressed(make)
    make_chains(make)
    make_extras(make)
    make_damaged(make)
    return make.names
