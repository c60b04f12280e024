#!/usr/bin/env python3
"""What the commands that change images refuse, by imgconv and by the genuine qemu-img 10.0.2.

    IMGCONV_QEMU_IMG10=/path/to/qemu-img tests/cli/refusals.py --imgconv build/imgconv
        [--only TEXT] [--verbose]

Every line of COMMANDS is run by both programs in copies of the same folder of images. Exit status,
stdout and stderr must be equal, and afterwards what `info` says of the images that the command names.
Most lines are refused; some stand here to show that their neighbour is not refused for another reason.
Where we differ on purpose, BETTER says why. Exit status 77: the genuine tools are not there.
"""
import argparse
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile

ENVIRONMENT = dict(os.environ, LC_ALL="C", TZ="UTC")

COMMANDS = """
resize plain.q 0
resize plain.q -1M
resize plain.q -2M
resize plain.q +0
resize plain.q 1M
resize plain.q 512k
resize --shrink plain.q 512k
resize --preallocation=full plain.q 512k
resize --shrink --preallocation=full plain.q 512k
resize --preallocation=metadata plain.q 1M
resize --preallocation=nope plain.q 2M
resize plain.q 1000001
resize plain.q 1000
resize plain.q x
resize plain.q 1x
resize plain.q 9E
resize plain.q 8E
resize plain.q +8E
resize plain.q 1P
resize plain.q
resize nofile.q 2M
resize dir.q 2M
resize -f raw plain.q 2M
resize -f qcow2 r.raw 2M
resize -f nope r.raw 2M
resize r.raw 2M
resize -f raw r.raw 2M
resize -f raw r.raw 1000
resize -f raw --shrink r.raw 1000
resize -f raw --shrink r.raw 512k
resize -f raw --preallocation=metadata r.raw 2M
resize -f raw --preallocation=nope r.raw 2M
resize -f raw r.raw 8E
resize --image-opts driver=raw,size=65536,file.filename=r.raw 2M
resize --image-opts driver=raw,offset=65536,file.filename=r.raw 2M
resize --image-opts -f raw r.raw 2M
resize --image-opts driver=qcow2,file.filename=plain.q,read-only=on 2M
resize v2snap.q 2M
resize --shrink v2snap.q 512k
resize v2snap.q 1M
resize snap.q 2M
resize --shrink snap.q 512k
resize v2.q 2M
resize bm.q 2M
resize --shrink bm.q 512k
resize bmbad.q 2M
resize bmbad.q 1M
resize --shrink bmbad.q 512k
resize corrupt.q 2M
resize unknown.q 2M
resize future.q 2M
resize encrypted.q 2M
resize nobase.q 2M
resize data.q 2M
resize --preallocation=metadata data.q 2M
resize nodata.q 2M
resize overlay.q 2M
resize v2overlay.q 2M
resize v2overlay.q 512k
resize v2large.q 2M
resize unaligned.q 2M
resize l1small.q 2M
resize badsnap.q 2M
resize badrefcount.q 2M

snapshot -c s r.raw
snapshot -a s r.raw
snapshot -d s r.raw
snapshot -l r.raw
snapshot r.raw
snapshot -c s data.q
snapshot -a s data.q
snapshot -d s data.q
snapshot -c s rc1.q
snapshot -c s full.q
snapshot -a s1 full.q
snapshot -a nope snap.q
snapshot -a '' snap.q
snapshot -d nope snap.q
snapshot -d '' snap.q
snapshot -d 1 snap.q
snapshot -d s1 snap.q
snapshot -a 1 snap.q
snapshot -a s1 snap.q
snapshot -c s1 snap.q
snapshot -c '' snap.q
snapshot -c s corrupt.q
snapshot -l corrupt.q
snapshot -c s unknown.q
snapshot -c s encrypted.q
snapshot -c s nobase.q
snapshot -l nobase.q
snapshot -c s nofile.q
snapshot -l nofile.q
snapshot -c s bm.q
snapshot -a s1 bm.q
snapshot -c s bmbad.q
snapshot -a nope bmbad.q
snapshot -U -c s plain.q
snapshot -U -l snap.q
snapshot -a s1 v2small.q
snapshot -a s1 v2snap.q
snapshot -d s1 v2snap.q
snapshot -c s overlay.q
snapshot -c a -d b snap.q
snapshot -l -c a snap.q
snapshot -c a
snapshot -c a snap.q plain.q
snapshot -a s1 badsnap.q
snapshot -d s1 badsnap.q
snapshot -l badsnap.q
snapshot --image-opts -c s driver=qcow2,file.filename=plain.q
snapshot --image-opts -c s driver=qcow2,file.filename=nofile.q

rebase plain.q
rebase -b base.q plain.q
rebase -b base.q -F qcow2 plain.q
rebase -b base.q -F raw plain.q
rebase -b base.q -F nope plain.q
rebase -b nofile.q -F qcow2 plain.q
rebase -b nofile.q -F qcow2 overlay.q
rebase -b nofile.q overlay.q
rebase -b r.raw -F qcow2 overlay.q
rebase -b r.raw -F raw overlay.q
rebase -b r.raw overlay.q
rebase -b '' overlay.q
rebase -b '' -F raw overlay.q
rebase -u overlay.q
rebase -u -b '' overlay.q
rebase -u -b nofile.q overlay.q
rebase -u -b nofile.q -F qcow2 overlay.q
rebase -u -b nofile.q -F nope overlay.q
rebase -u -b nofile.q -F vmdk overlay.q
rebase -u -b nofile.q -F nbd overlay.q
rebase -u -b nofile.q -F host_device overlay.q
rebase -u -b nofile.q -F '' overlay.q
rebase -u -F raw overlay.q
rebase -c -b '' overlay.q
rebase -c -b '' -f raw r.raw
rebase -b base.q -F qcow2 -f raw r.raw
rebase -u -b base.q -F qcow2 -f raw r.raw
rebase -b base.q -F qcow2 r.raw
rebase -c -b '' data.q
rebase -b base.q -F qcow2 data.q
rebase -b base.q -F qcow2 dataraw.q
rebase -u -b base.q -F qcow2 dataraw.q
rebase -b base.q -F qcow2 nobase.q
rebase -u -b base.q -F qcow2 nobase.q
rebase -b base.q -F qcow2 corrupt.q
rebase -u -b base.q -F qcow2 corrupt.q
rebase -b base.q -F qcow2 unknown.q
rebase -b base.q -F qcow2 encrypted.q
rebase -b base.q -F qcow2 nofile.q
rebase -u -b {long} -F raw overlay.q
rebase -u -b {longer} -F raw overlay.q
rebase -u -b {long} -F raw small.q
rebase -t nope -b '' overlay.q
rebase -T nope -b '' overlay.q
rebase -b '' overlay.q plain.q
rebase -b corrupt.q -F qcow2 overlay.q
rebase -b unknown.q -F qcow2 overlay.q
rebase -b dir.q -F raw overlay.q
rebase -b 'json:{' -F raw overlay.q
rebase -b 'json:{"driver":"raw","file":{"driver":"file","filename":"r.raw"}}' -F raw overlay.q
rebase -b foo:bar -F raw overlay.q

commit plain.q
commit r.raw
commit -f raw r.raw
commit overlay.q
commit -d overlay.q
commit -b base.q overlay.q
commit -b nope overlay.q
commit -b '' overlay.q
commit -b overlay.q overlay.q
commit -b base.q top.q
commit -b overlay.q top.q
commit -b ./base.q top.q
commit nobase.q
commit nofile.q
commit corrupt.q
commit oncorrupt.q
commit onunknown.q
commit encrypted.q
commit onraw.q
commit onguessed.q
commit headonguessed.q
commit v2overlay.q
commit data.q
commit -r x overlay.q
commit -t nope overlay.q
commit overlay.q plain.q
commit snapoverlay.q
commit bmoverlay.q

amend plain.q
amend -o '' plain.q
amend -o nope=1 plain.q
amend -o compat=2.0 plain.q
amend -o compat=9 plain.q
amend -o compat=0.10 plain.q
amend -o compat=v2 plain.q
amend -o compat=1.1 v2.q
amend -o compat=v3 v2.q
amend -o cluster_size=4096 plain.q
amend -o cluster_size=65536 plain.q
amend -o compression_type=zstd plain.q
amend -o compression_type=zlib plain.q
amend -o extended_l2=on plain.q
amend -o preallocation=full plain.q
amend -o encryption=on plain.q
amend -o encrypt.format=luks plain.q
amend -o backing_file=base.q plain.q
amend -o backing_file=base.q overlay.q
amend -o backing_file=other.q overlay.q
amend -o backing_fmt=raw overlay.q
amend -o backing_fmt=qcow2 overlay.q
amend -o backing_file=base.q,backing_fmt=qcow2 overlay.q
amend -o size=x plain.q
amend -o size=0 plain.q
amend -o size=1000 plain.q
amend -o size=512k plain.q
amend -o size=2M plain.q
amend -o size=7E plain.q
amend -o size=8E plain.q
amend -o size=9223372036854774784 plain.q
amend -o size=9223372036854775807 plain.q
amend -o size=18446744073709551615 plain.q
amend -o size=-1 plain.q
amend -o size=2M v2snap.q
amend -o size=2M,compat=1.1 v2snap.q
amend -o size=2M bmbad.q
amend -o size=2M bm.q
amend -o lazy_refcounts=x plain.q
amend -o lazy_refcounts=on v2.q
amend -o lazy_refcounts=on plain.q
amend -o lazy_refcounts=off,compat=0.10 lazy.q
amend -o compat=0.10 lazy.q
amend -o compat=0.10,lazy_refcounts=on plain.q
amend -o refcount_bits=3 plain.q
amend -o refcount_bits=0 plain.q
amend -o refcount_bits=128 plain.q
amend -o refcount_bits=x plain.q
amend -o refcount_bits=16 plain.q
amend -o refcount_bits=8 v2.q
amend -o refcount_bits=8,compat=0.10 plain.q
amend -o compat=0.10 rc1.q
amend -o compat=0.10,refcount_bits=16 rc1.q
amend -o compat=0.10 ext.q
amend -o compat=0.10 data.q
amend -o compat=0.10 dataraw.q
amend -o compat=0.10 bm.q
amend -o compat=0.10 snapsizes.q
amend -o compat=0.10 zstd.q
amend -o compat=0.10 zstddata.q
amend -o refcount_bits=1 snap.q
amend -o refcount_bits=1 plain.q
amend -o data_file=x.raw plain.q
amend -o data_file=data.raw data.q
amend -o data_file= data.q
amend -o data_file_raw=on plain.q
amend -o data_file_raw=on data.q
amend -o data_file_raw=off dataraw.q
amend -o data_file_raw=on dataraw.q
amend -f raw -o size=2M r.raw
amend -o size=2M r.raw
amend -f nope -o size=2M r.raw
amend -o size=2M nofile.q
amend -o size=2M corrupt.q
amend -o size=2M unknown.q
amend -o size=2M encrypted.q
amend -o size=2M nobase.q
amend -o lazy_refcounts=on plain.q v2.q
amend -t nope -o size=2M plain.q
amend -o ,size=2M plain.q
amend -o size=2M, plain.q
amend --force -o size=2M plain.q

bitmap --add plain.q b
bitmap --add bm.q b0
bitmap --add -g 1000 plain.q b
bitmap --add -g 256 plain.q b
bitmap --add -g 0 plain.q b
bitmap --add -g 4G plain.q b
bitmap --add -g 2G plain.q b
bitmap --add -g 1 plain.q b
bitmap --add plain.q {name1023}
bitmap --add plain.q {name1024}
bitmap --add plain.q ''
bitmap --add v2.q b
bitmap --add -f raw r.raw b
bitmap --add r.raw b
bitmap --add corrupt.q b
bitmap --add unknown.q b
bitmap --add encrypted.q b
bitmap --add nofile.q b
bitmap --add nobase.q b
bitmap --add data.q b
bitmap --add -g 512 huge.q b
bitmap --add -g 4k huge.q b
bitmap --remove bm.q nope
bitmap --remove bmbad.q b0
bitmap --clear bm.q nope
bitmap --clear bmbad.q b0
bitmap --enable bm.q nope
bitmap --enable bmbad.q b0
bitmap --disable bm.q nope
bitmap --disable bmbad.q b0
bitmap --merge b1 bm.q b0
bitmap --merge nope bm.q b0
bitmap --merge b1 bm.q nope
bitmap --merge b0 bmbad.q b1
bitmap --merge b1 bmbad.q b0
bitmap --merge b0 -b nofile.q bm.q b0
bitmap --merge b0 -b plain.q bm.q b0
bitmap --merge b0 -b bmbad.q bm.q b0
bitmap --merge b0 -b bmbig.q bm.q b0
bitmap --merge b0 -b bm2.q bm.q b0
bitmap --merge b0 -b bm2.q -F raw bm.q b0
bitmap --merge b0 -b bm2.q -F nope bm.q b0
bitmap --merge b0 -b r.raw bm.q b0
bitmap --merge b0 -b bm.q bm.q b1
bitmap --merge b0 -F qcow2 bm.q b1
bitmap --add -b bm2.q bm.q b5
bitmap --remove -g 64k bm.q b0
bitmap bm.q b0
bitmap --add bm.q
bitmap --add bm.q b0 b1
bitmap --add --remove bm.q b7
bitmap --add --disable --clear --enable --remove bm.q b7
bitmap --clear --add bm.q b0
bitmap --add --merge nope bm.q b7
bitmap --add -f raw bm.q b7
bitmap --add bmlost.q b7

convert -n -O qcow2 r.raw v2.q
convert -n -O raw big.raw r.raw
convert -n -O qcow2 big.raw plain.q
convert -n -O qcow2 r.raw corrupt.q
convert -n -O qcow2 r.raw unknown.q
convert -n -O qcow2 r.raw encrypted.q
convert -n -O qcow2 r.raw nofile.q
convert -n -O qcow2 r.raw nobase.q
convert -n -O nope r.raw plain.q
convert -n -O qcow2 r.raw r.raw
convert -n -c -O qcow2 big.raw data.q
convert -n -O qcow2 --bitmaps bm.q v2.q
convert -n -O raw --bitmaps bm.q r.raw
convert -n -O qcow2 --bitmaps bm.q bm2.q
convert -n -O qcow2 --bitmaps bmbad.q plain.q
convert -n -O qcow2 --bitmaps --skip-broken-bitmaps bmbad.q plain.q
convert -n -O qcow2 --skip-broken-bitmaps bmbad.q plain.q
convert -n -O qcow2 --bitmaps r.raw plain.q
convert -n -f raw --target-image-opts head.raw file.filename=r.raw
convert -n -f raw --target-image-opts head.raw driver=raw,file.filename=r.raw
convert -n -f raw -O raw head.raw r.raw
convert -O qcow2 -B base.q plain.q new.q
convert -O qcow2 -B base.q -F nope plain.q new.q
convert -O raw -B base.q -F qcow2 plain.q new.raw

dd if=plain.q
dd of=new.raw
dd if=nofile.q of=new.raw
dd if=plain.q of=new.raw bs=0
dd if=plain.q of=new.raw bs=x
dd if=plain.q of=new.raw count=x
dd if=plain.q of=new.raw skip=x
dd if=plain.q of=new.raw nope=1
dd if=plain.q of=new.raw skip=9000
dd -O nope if=plain.q of=new.raw
dd -f raw if=plain.q of=new.raw

bench -w -c 1 -f raw head.raw
bench -w -c 1 -o 100 -s 10 --pattern=81 r.raw
bench -w -c 1 -s 512 --pattern=81 r.raw
bench -w -c 1 corrupt.q
bench -c 1 corrupt.q
bench -c 0 r.raw
bench -d 0 r.raw
bench -w --pattern=256 r.raw
bench -S x r.raw
bench --flush-interval=4 r.raw
bench -w -d 8 --flush-interval=4 r.raw
bench -i nope r.raw
bench -t nope r.raw
bench -c 1 nofile.q
"""

# Command: the reason why we answer otherwise, on purpose.
BETTER = {
    "commit oncorrupt.q": "what says of itself that it is damaged is not written to",
    "bitmap --add bmlost.q b7": "the original forgets the end of a line",
}
# Texts of Debian's parser of options and sizes; upstream's, which we have, are in CLI.md.
DEBIAN = {
    "resize plain.q", "commit -r x overlay.q", "dd if=plain.q of=new.raw bs=x",
    "dd if=plain.q of=new.raw count=x", "dd if=plain.q of=new.raw skip=x", "bench -c 0 r.raw",
    "bench -d 0 r.raw", "bench -w --pattern=256 r.raw", "bench -S x r.raw",
}


def run(words, folder):
    done = subprocess.run(words, cwd=folder, capture_output=True, check=False, env=ENVIRONMENT,
                          timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def poke(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def peek(path, offset, layout):
    with open(path, "rb") as file:
        file.seek(offset)
        return struct.unpack(layout, file.read(struct.calcsize(layout)))[0]


class Images:
    """The folder that both programs get a copy of."""

    def __init__(self, genuine, folder):
        self.genuine, self.io, self.folder = genuine, genuine.replace("qemu-img", "qemu-io"), folder
        os.makedirs(folder)
        self.plain_images()
        self.overlays()
        self.bitmaps()
        self.damaged()

    def img(self, *words):
        status, out, err = run([self.genuine, *words], self.folder)
        if status != 0:
            raise RuntimeError(f"{words}: {out} {err}")

    def create(self, name, options="", size="1M", base=None):
        below = ["-b", base[0], "-F", base[1]] if base else []
        options = ",".join(filter(None, ["cluster_size=" + ("16k" if "ext" in options else "4k"), options]))
        self.img("create", "-q", "-f", "qcow2", "-o", options, *below, name, size)
        return os.path.join(self.folder, name)

    def write(self, name, *commands):
        words = [word for command in commands for word in ("-c", command)]
        run([self.io, "-f", "raw" if name.endswith("raw") else "qcow2", *words, name], self.folder)

    def plain_images(self):
        for name, size in (("r.raw", "1M"), ("big.raw", "2M"), ("head.raw", "1M")):
            self.img("create", "-q", "-f", "raw", name, size)
            self.write(name, "write -q -P 5 64k 128k")
        # Looks like an image once it is written to the start of another file.
        poke(os.path.join(self.folder, "head.raw"), 0, b"QFI\xfb\0\0\0\x03")
        os.mkdir(os.path.join(self.folder, "dir.q"))
        for name, options in (("plain.q", ""), ("v2.q", "compat=0.10"), ("rc1.q", "refcount_bits=1"),
                              ("ext.q", "extended_l2=on"), ("lazy.q", "lazy_refcounts=on"),
                              ("data.q", "data_file=data.raw"), ("zstd.q", "compression_type=zstd"),
                              ("dataraw.q", "data_file=dataraw.raw,data_file_raw=on"),
                              ("zstddata.q", "compression_type=zstd")):
            self.create(name, options)
            self.write(name, "write -q -P 1 0 64k", "write -q -z 128k 64k")
        self.write("zstddata.q", "write -q -c -P 1 512k 64k")
        self.create("small.q", "cluster_size=512")
        self.img("create", "-q", "-f", "qcow2", "huge.q", "8T")
        for name, options in (("snap.q", ""), ("v2snap.q", "compat=0.10"), ("badsnap.q", ""),
                              ("snapsizes.q", "")):
            self.create(name, options)
            self.write(name, "write -q -P 1 0 64k")
            self.img("snapshot", "-c", "s1", name)
            self.write(name, "write -q -P 2 32k 64k")
        self.img("resize", "snapsizes.q", "2M")
        # Every cluster is counted three times, which is as far as two bits count.
        self.create("full.q", "refcount_bits=2")
        self.write("full.q", "write -q -P 1 0 64k")
        for name in ("s1", "s2"):
            self.img("snapshot", "-c", name, "full.q")

    def overlays(self):
        for name in ("base.q", "other.q"):
            self.create(name)
            self.write(name, "write -q -P 9 256k 256k")
        self.create("bigbase.q", size="2M")
        for name, options, base in (("overlay.q", "", ("base.q", "qcow2")),
                                    ("v2overlay.q", "compat=0.10", ("base.q", "qcow2")),
                                    ("top.q", "", ("overlay.q", "qcow2")),
                                    ("onraw.q", "", ("r.raw", "raw")),
                                    ("snapoverlay.q", "", ("base.q", "qcow2")),
                                    ("bmoverlay.q", "", ("base.q", "qcow2")),
                                    ("v2large.q", "compat=0.10", ("bigbase.q", "qcow2"))):
            self.create(name, options, "1M", base)
            self.write(name, "write -q -P 3 128k 256k")
        self.img("snapshot", "-c", "s1", "snapoverlay.q")
        self.img("bitmap", "--add", "bmoverlay.q", "b0")
        self.create("nobase.q", base=("base.q", "qcow2"))
        self.img("rebase", "-u", "-b", "gone.q", "-F", "qcow2", "nobase.q")
        # Overlays that do not say what their base is, so that it is guessed; one would turn it around.
        for name, command in (("onguessed.q", "write -q -P 3 0 64k"),
                              ("headonguessed.q", "write -q -s head.raw 0 64k")):
            path = self.create(name, base=("r.raw", "raw"))
            self.write(name, command)
            with open(path, "rb") as file:
                at = file.read(512).index(struct.pack(">II", 0xE2792ACA, 3))
            poke(path, at, struct.pack(">I", 0x12345678))

    def bitmaps(self):
        for name, size in (("bm.q", "1M"), ("bm2.q", "1M"), ("bmbig.q", "2M"), ("bmbad.q", "1M"),
                           ("bmlost.q", "1M")):
            self.create(name, size=size)
            self.img("snapshot", "-c", "s1", name)
            self.img("bitmap", "--add", name, "b0")
            self.img("bitmap", "--add", "--disable", name, "b1")
            self.write(name, "write -q -P 1 0 64k")
        bad = os.path.join(self.folder, "bmbad.q")
        with open(bad, "rb") as file:
            data = file.read()
        extension = data.index(struct.pack(">II", 0x23852875, 24), 104) + 8
        directory = struct.unpack(">Q", data[extension + 16:extension + 24])[0]
        poke(bad, directory + 12, struct.pack(">I", 3))
        poke(os.path.join(self.folder, "bmlost.q"), 88, bytes(8))

    def damaged(self):
        for name, offset, value in (("corrupt.q", 72, ">Q 2"), ("unknown.q", 72, ">Q 256"),
                                    ("future.q", 4, ">I 4"), ("encrypted.q", 32, ">I 1"),
                                    ("unaligned.q", 40, ">Q 513"), ("l1small.q", 36, ">I 0"),
                                    ("badrefcount.q", 48, ">Q 513")):
            path = self.create(name)
            layout, number = value.split()
            poke(path, offset, struct.pack(layout, int(number)))
        for name, base in (("oncorrupt.q", "corrupt.q"), ("onunknown.q", "unknown.q")):
            self.create(name, base=("base.q", "qcow2"))
            self.write(name, "write -q -P 3 128k 64k")
            self.img("rebase", "-u", "-b", base, "-F", "qcow2", name)
        bad = os.path.join(self.folder, "badsnap.q")
        poke(bad, peek(bad, 64, ">Q"), struct.pack(">Q", 513))
        shutil.copyfile(self.create("nodata.q", "data_file=lost.raw"), bad + ".copy")
        os.remove(os.path.join(self.folder, "lost.raw"))
        os.remove(bad + ".copy")
        # Version 2 with a snapshot of another size, which only other programs make.
        shutil.copyfile(os.path.join(self.folder, "v2snap.q"), os.path.join(self.folder, "v2small.q"))
        small = os.path.join(self.folder, "v2small.q")
        poke(small, peek(small, 64, ">Q") + 48, struct.pack(">Q", 512 << 10))


def normalize(text, genuine_name):
    text = text.replace(genuine_name, "qemu-img")
    text = re.sub(r"'#block\d+'", "NODE", text)
    text = re.sub(r"persistent in '[^']*'", "persistent in NODE", text)
    text = re.sub(r"(bitmaps to) \S+:", r"\1 NODE:", text)
    text = re.sub(r"Try 'qemu-img( \w+)? --help' for more info(rmation)?", "HINT", text)
    return re.sub(r"in \d+\.\d+ seconds", "in T seconds", text)


def facts(genuine, folder, words):
    """What `info` says of the images that are named, but for places, sizes on disk and dates."""
    found = {}
    for word in words:
        name = word.split("=")[-1]
        if not os.path.isfile(os.path.join(folder, name)):
            continue
        status, out, err = run([genuine, "info", "-U", "--output=json", name], folder)
        info = json.loads(out) if out else {}
        for key in ("actual-size", "children"):
            info.pop(key, None)
        for snapshot in info.get("snapshots", []):
            snapshot.pop("date-sec"), snapshot.pop("date-nsec")
        found[name] = (status, info, err)
    return found


def restore(images, place):
    """Makes the folder a copy of `images` again."""
    for name in set(os.listdir(place)) - set(os.listdir(images)):
        os.remove(os.path.join(place, name))
    for name in os.listdir(images):
        pair = [os.path.join(folder, name) for folder in (images, place)]
        if not os.path.isfile(pair[0]):
            continue
        stats = [os.stat(path) if os.path.exists(path) else None for path in pair]
        if stats[1] is None or (stats[0].st_size, stats[0].st_mtime_ns) != (stats[1].st_size, stats[1].st_mtime_ns):
            shutil.copy2(*pair)


def compare(tools, images, line, folder):
    """Returns what differs, and what the genuine tool says."""
    long_names = {"long": "x" * 900, "longer": "x" * 1100, "name1023": "n" * 1023, "name1024": "n" * 1024}
    words = shlex.split(re.sub(r"\{(\w+)\}", lambda match: long_names[match[1]], line))
    answers, states = {}, {}
    for who in ("ours", "genuine"):
        place = os.path.join(folder, who)
        restore(images, place)
        status, out, err = run([tools[who], *words], place)
        answers[who] = status, normalize(out, tools[who]), normalize(err, tools[who])
        states[who] = facts(tools["genuine"], place, words)
    lines = [f"    {who}: {answers[who]}" for who in answers] if answers["ours"] != answers["genuine"] else []
    if states["ours"] != states["genuine"]:
        lines += [f"    {who} then: {states[who]}" for who in states]
    return lines, answers["genuine"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--only", default="", help="commands with this text in them")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    genuine = os.environ.get("IMGCONV_QEMU_IMG10", "")
    if not os.access(genuine, os.X_OK):
        print("needs qemu-img 10.0.2 in $IMGCONV_QEMU_IMG10, and qemu-io beside it")
        return 77
    commands = [line for line in COMMANDS.splitlines() if line and arguments.only in line]
    differences = refused = 0
    with tempfile.TemporaryDirectory() as folder:
        ours = os.path.join(folder, "qemu-img")
        os.symlink(os.path.abspath(arguments.imgconv), ours)
        images = os.path.join(folder, "images")
        Images(genuine, images)
        tools = {"ours": ours, "genuine": genuine}
        for who in tools:
            shutil.copytree(images, os.path.join(folder, who))
        for line in commands:
            found, answer = compare(tools, images, line, folder)
            refused += answer[0] != 0
            if arguments.verbose:
                print(line, answer, sep="\n    ")
            if found and line not in BETTER and line not in DEBIAN:
                differences += 1
                print(line, *[f"{text:.1200}" for text in found], sep="\n")
    print(f"{len(commands)} commands, of which {refused} are refused; {differences} differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
