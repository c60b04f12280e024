#!/bin/bash
# Makes the large images that tests/bench and tests/cli/pairs.py work on: about 10 GiB of
# allocated space, so by default on tmpfs.
#
#   images/corpus.sh [DIRECTORY]        (default /dev/shm/imgconv-corpus)
#
# What is there already is kept. File systems have fixed ids, times and hash seeds, random data is
# a fixed AES-CTR key stream and shuffles have a fixed source, so that two runs on one machine give
# the same images; the file system's content is a hash-selected part of /usr, listed in
# DIRECTORY/*.list. Needs mke2fs, openssl, python3, qemu-img and qemu-io ($QEMU_IMG, $QEMU_IO).
set -euo pipefail

dir=${1:-/dev/shm/imgconv-corpus}
img=${QEMU_IMG:-qemu-img}
io=${QEMU_IO:-qemu-io}
export E2FSPROGS_FAKE_TIME=1700000000 LC_ALL=C
mkdir -p "$dir"
cd "$dir"

missing() { [ ! -e "$1" ] && echo "making $1" >&2; }

# key_stream KEY: an endless reproducible stream of incompressible bytes.
key_stream() {
  openssl enc -aes-128-ctr -nosalt -K "$1" -iv 00000000000000000000000000000000 </dev/zero 2>/dev/null
}

# select_files BYTES: names of about half of this machine's files, in a fixed order, up to BYTES.
select_files() {
  python3 - "$1" <<'PY'
import hashlib, os, sys
limit, total, chosen = int(sys.argv[1]), 0, []
for top in ("/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu", "/usr/share", "/usr/include",
            "/usr/lib/gcc"):
    for folder, subfolders, names in os.walk(top):
        subfolders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            digest = hashlib.md5(path.encode()).digest()
            if digest[0] < 140:
                chosen.append((digest, path, os.path.getsize(path)))
for _, path, size in sorted(chosen):
    if size > 64 << 20:
        continue
    if total + size > limit:
        break
    total += size
    print(path)
PY
}

# ext4_disk FILE BYTES-OF-CONTENT VIRTUAL-SIZE
ext4_disk() {
  local stage list=$1.list
  [ -s "$list" ] || select_files "$2" >"$list"
  stage=$(mktemp -d "$dir/stage.XXXXXX")
  tar -C / --ignore-failed-read -cf - -T <(sed 's,^/,,' "$list") 2>/dev/null | tar -C "$stage" -xf -
  rm -f "$1"
  truncate -s "$3" "$1"
  mke2fs -q -F -t ext4 -U 6f3c2b1a-0000-4000-8000-000000000001 \
    -E hash_seed=6f3c2b1a-0000-4000-8000-000000000002,lazy_itable_init=1 -d "$stage" "$1"
  rm -rf "$stage"
}

# An 8 GiB cloud disk and its usual forms.
if missing cloud.raw; then ext4_disk cloud.raw $((1500 << 20)) 8G; fi
if missing cloud.qcow2; then $img convert -O qcow2 -W -m 16 cloud.raw cloud.qcow2; fi
if missing cloud-zlib.qcow2; then $img convert -O qcow2 -c -W -m 16 cloud.raw cloud-zlib.qcow2; fi
if missing cloud-zstd.qcow2; then
  $img convert -O qcow2 -c -W -m 16 -o compression_type=zstd cloud.raw cloud-zstd.qcow2
fi
if missing cloud-extl2.qcow2; then
  $img convert -O qcow2 -o extended_l2=on,cluster_size=128k -W -m 16 cloud.raw cloud-extl2.qcow2
fi
if missing cloud-2m.qcow2; then $img convert -O qcow2 -o cluster_size=2M cloud.raw cloud-2m.qcow2; fi
if missing cloud-512.qcow2; then $img convert -O qcow2 -o cluster_size=512 cloud.raw cloud-512.qcow2; fi
# The same disk with its clusters in shuffled order: allocated first, filled in place afterwards.
if missing cloud-frag.qcow2; then
  size=$(stat -c %s cloud.raw)
  $img create -q -f qcow2 cloud-frag.qcow2 "$size"
  $img map --output=json cloud.qcow2 | python3 -c '
import json, random, sys
clusters = [offset for run in json.load(sys.stdin) if run["data"]
            for offset in range(run["start"], run["start"] + run["length"], 65536)]
random.Random(1).shuffle(clusters)
for offset in clusters:
    print("write -P 1", offset, 65536)' | $io -n -f qcow2 cloud-frag.qcow2 >/dev/null
  $img convert -n -O qcow2 cloud.raw cloud-frag.qcow2
fi

# Incompressible data.
if missing random.raw; then key_stream 000102030405060708090a0b0c0d0e0f | head -c 2G >random.raw || true; fi

# 1 TiB, nearly empty: one cluster in each GiB, and sixteen clusters in all.
if missing sparse1t.qcow2; then
  $img create -q -f qcow2 sparse1t.qcow2 1T
  seq 0 1023 | awk '{printf "write -P %d %dM 64k\n", 1+$1%255, $1*1024+($1*37)%1000}' |
    $io -n -f qcow2 sparse1t.qcow2 >/dev/null
fi
if missing sparse1t-few.qcow2; then
  $img create -q -f qcow2 sparse1t-few.qcow2 1T
  seq 0 15 | awk '{printf "write -P %d %dG 64k\n", 1+$1, $1*61+3}' |
    $io -n -f qcow2 sparse1t-few.qcow2 >/dev/null
fi

# Every cluster written, in shuffled order: guest order is not host order.
if missing frag.qcow2; then
  $img create -q -f qcow2 frag.qcow2 1G
  seq 0 16383 | shuf --random-source=<(key_stream 01) |
    awk '{printf "write -P %d %dk 64k\n", 1+$1%255, $1*64}' | $io -n -f qcow2 frag.qcow2 >/dev/null
fi

# Three overlays on the cloud disk with scattered writes of 64 KiB to 512 KiB.
if missing chain3.qcow2; then
  base=cloud.qcow2
  for i in 1 2 3; do
    $img create -q -f qcow2 -b $base -F qcow2 chain$i.qcow2
    seq 1 $((600 / i)) | awk -v i=$i 'BEGIN { srand(i) }
      { o = int(rand() * 131000); l = 1 + int(rand() * 8)
        printf "write -P %d %dk %dk\n", 1 + ($1 * 7 + i) % 255, o * 64, l * 64 }' |
      $io -n -f qcow2 chain$i.qcow2 >/dev/null
    base=chain$i.qcow2
  done
fi

# Ten MiB: what is left is start-up.
if missing small.qcow2; then
  key_stream 02 | head -c 5M >small.raw || true
  truncate -s 10M small.raw
  $img convert -O qcow2 small.raw small.qcow2
  $img convert -O qcow2 -c small.raw small-zlib.qcow2
fi

# A 2 GiB disk with 400 MiB of files, in the cluster sizes that hurt.
if missing mini.raw; then ext4_disk mini.raw $((400 << 20)) 2G; fi
if missing mini-extl2.qcow2; then
  $img convert -O qcow2 -o extended_l2=on,cluster_size=128k -W -m 16 mini.raw mini-extl2.qcow2
fi
if missing mini-2m.qcow2; then $img convert -O qcow2 -o cluster_size=2M mini.raw mini-2m.qcow2; fi
if missing mini-512.qcow2; then $img convert -O qcow2 -o cluster_size=512 mini.raw mini-512.qcow2; fi
if missing mini-2m-zlib.qcow2; then
  $img convert -O qcow2 -c -W -m 16 -o cluster_size=2M mini.raw mini-2m-zlib.qcow2
fi
if missing mini-4k-zlib.qcow2; then
  $img convert -O qcow2 -c -W -m 16 -o cluster_size=4k mini.raw mini-4k-zlib.qcow2
fi
ls -ls --block-size=M
