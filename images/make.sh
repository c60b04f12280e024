#!/bin/bash
# Makes the reference images of this folder with the genuine tools, and their manifest.
#
#   images/make.sh DIRECTORY        DIRECTORY receives the images and MANIFEST.tsv
#
# The committed images are the result of one run; this script documents how each was made and makes
# new ones when a case is added. $QEMU_IMG_72 and $QEMU_IMG_10 (and the qemu-io beside each) are the
# two versions of the tool that the manifest names. Each line of the manifest: file, sha256 of the
# file, virtual size, sha256 of the guest's bytes as the genuine tool reads them, tool, command.
set -euo pipefail

out=${1:?usage: images/make.sh DIRECTORY}
q72=${QEMU_IMG_72:-/usr/bin/qemu-img}
q10=${QEMU_IMG_10:?path of qemu-img 10.0.2}
export E2FSPROGS_FAKE_TIME=1700000000 LC_ALL=C SOURCE_DATE_EPOCH=1700000000 TZ=UTC
mkdir -p "$out"
cd "$out"
rm -f -- *.qcow2 *.raw *.data MANIFEST.tsv
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

version() { "$1" --version | sed -n '1s/qemu-img version \([^ ]*\).*/qemu-img \1/p'; }
declare -A tool command

# by IMG FILE ARGUMENTS...: runs IMG and remembers that it made FILE.
by() {
  local img=$1 file=$2
  shift 2
  "$img" "$@" >/dev/null
  tool[$file]=$(version "$img")
  command[$file]=${command[$file]:+${command[$file]}; }"qemu-img $*"
}
# io IMG FILE COMMANDS...: changes FILE with the qemu-io beside IMG.
io() {
  local img=$1 file=$2 c
  shift 2
  local args=()
  for c in "$@"; do args+=(-c "$c"); done
  "$(dirname "$img")/qemu-io" -f qcow2 "${args[@]}" "$file" >/dev/null
  command[$file]+="; qemu-io ${args[*]}"
}

# --- the file systems inside -------------------------------------------------------------------
tree=$work/tree
mkdir -p "$tree/etc" "$tree/usr/share/licenses" "$tree/var/log"
cp /usr/share/common-licenses/{GPL-3,LGPL-2.1,Apache-2.0,MPL-2.0} "$tree/usr/share/licenses/"
printf 'imgconv-sample\n' >"$tree/etc/hostname"
seq -f 'line %06.0f of a log that compresses well' 1 2000 >"$tree/var/log/messages"
openssl enc -aes-128-ctr -nosalt -K 07 -iv 00 </dev/zero 2>/dev/null | head -c 24576 >"$tree/etc/seed" || true
find "$tree" -exec touch -d @1700000000 {} +

ext4=$work/ext4.raw
truncate -s 4M "$ext4"
mke2fs -q -F -t ext4 -b 1024 -O ^has_journal -U 6f3c2b1a-0000-4000-8000-000000000003 \
  -E hash_seed=6f3c2b1a-0000-4000-8000-000000000004,root_owner=0:0 -d "$tree" "$ext4"
squash=$work/squash.raw
mksquashfs "$tree" "$squash" -noappend -quiet -all-root -comp gzip >/dev/null
vfat=$work/vfat.raw
truncate -s 1440k "$vfat"
mkfs.vfat --invariant -i 12345678 -n IMGCONV "$vfat" >/dev/null
ln -s "$ext4" ext4.src; ln -s "$squash" squash.src; ln -s "$vfat" vfat.src

# --- one image per thing that can differ -------------------------------------------------------
by "$q72" ext4-v3.qcow2         convert -f raw -O qcow2 ext4.src ext4-v3.qcow2
by "$q72" ext4-v2.qcow2         convert -f raw -O qcow2 -o compat=0.10,cluster_size=4k ext4.src ext4-v2.qcow2
by "$q72" ext4-zlib.qcow2       convert -f raw -O qcow2 -c ext4.src ext4-zlib.qcow2
by "$q10" ext4-zstd.qcow2       convert -f raw -O qcow2 -c -o compression_type=zstd ext4.src ext4-zstd.qcow2
by "$q72" ext4-512-zlib.qcow2   convert -f raw -O qcow2 -c -o cluster_size=512 ext4.src ext4-512-zlib.qcow2
by "$q10" ext4-512.qcow2        convert -f raw -O qcow2 -o cluster_size=512 ext4.src ext4-512.qcow2
by "$q10" ext4-extl2.qcow2      convert -f raw -O qcow2 -o extended_l2=on,cluster_size=16k ext4.src ext4-extl2.qcow2
by "$q10" ext4-refcount1.qcow2  convert -f raw -O qcow2 -o refcount_bits=1,cluster_size=4k ext4.src ext4-refcount1.qcow2
by "$q10" ext4-refcount64.qcow2 convert -f raw -O qcow2 -o refcount_bits=64,lazy_refcounts=on,cluster_size=4k ext4.src ext4-refcount64.qcow2
by "$q10" squash-v3.qcow2       convert -f raw -O qcow2 -o cluster_size=8k squash.src squash-v3.qcow2
by "$q72" vfat-1k.qcow2         convert -f raw -O qcow2 -o cluster_size=1k vfat.src vfat-1k.qcow2
by "$q10" empty.qcow2           create -f qcow2 -o cluster_size=4k empty.qcow2 64M
by "$q10" size0.qcow2           create -f qcow2 -o cluster_size=4k size0.qcow2 0
by "$q10" odd-size.qcow2        create -f qcow2 -o cluster_size=4k odd-size.qcow2 1049088
io "$q10" odd-size.qcow2        "write -P 5 1044480 4608"

# chain: raw base (shorter) <- v2 <- v3 with zero clusters (longer)
by "$q72" chain-base.raw        convert -f raw -O raw squash.src chain-base.raw
by "$q72" chain-mid.qcow2       create -f qcow2 -F raw -b chain-base.raw -o compat=0.10,cluster_size=4k chain-mid.qcow2 1M
io "$q72" chain-mid.qcow2       "write -P 17 32k 12k" "write -P 18 900k 8k"
by "$q10" chain-top.qcow2       create -f qcow2 -F qcow2 -b chain-mid.qcow2 -o cluster_size=4k chain-top.qcow2 2M
io "$q10" chain-top.qcow2       "write -z 36k 4k" "write -P 33 60k 5k" "write -z -u 100k 16k" "write -P 34 1500k 4k"

# internal snapshots, bitmaps, an external data file
by "$q10" snapshots.qcow2       create -f qcow2 -o cluster_size=4k snapshots.qcow2 1M
io "$q10" snapshots.qcow2       "write -P 1 0 64k"
by "$q10" snapshots.qcow2       snapshot -c first snapshots.qcow2
io "$q10" snapshots.qcow2       "write -P 2 32k 64k" "write -z 0 4k"
by "$q10" snapshots.qcow2       snapshot -c second snapshots.qcow2
io "$q10" snapshots.qcow2       "write -P 3 64k 4k" "discard 200k 8k"
by "$q10" bitmaps.qcow2         create -f qcow2 -o cluster_size=4k bitmaps.qcow2 1M
by "$q10" bitmaps.qcow2         bitmap --add bitmaps.qcow2 daily
by "$q10" bitmaps.qcow2         bitmap --add --disable -g 32768 bitmaps.qcow2 weekly
io "$q10" bitmaps.qcow2         "write -P 9 16k 24k"
by "$q10" datafile.qcow2        create -f qcow2 -o cluster_size=4k,data_file=datafile.data datafile.qcow2 256k
io "$q10" datafile.qcow2        "write -P 7 0 4k" "write -P 8 64k 9k" "write -z 72k 4k"
tool[datafile.data]=${tool[datafile.qcow2]}
command[datafile.data]="made with datafile.qcow2"
by "$q10" subclusters.qcow2     create -f qcow2 -o extended_l2=on,cluster_size=16k subclusters.qcow2 512k
io "$q10" subclusters.qcow2     "write -P 6 512 1k" "write -z 4k 2k" "write -P 4 32k 16k" "write -z -u 40k 1k" "write -z -u 64k 16k"
by "$q10" prealloc.qcow2        create -f qcow2 -o preallocation=metadata,cluster_size=4k prealloc.qcow2 256k
io "$q10" prealloc.qcow2        "write -P 11 8k 4k"

# --- manifest ----------------------------------------------------------------------------------
rm -f ./*.src
for file in *.qcow2 *.raw *.data; do
  format=raw
  [[ $file == *.qcow2 ]] && format=qcow2
  "$q10" convert -U -f $format -O raw "$file" "$work/guest"
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$file" "$(sha256sum <"$file" | cut -d' ' -f1)" \
    "$(stat -c %s "$work/guest")" "$(sha256sum <"$work/guest" | cut -d' ' -f1)" \
    "${tool[$file]}" "${command[$file]}"
done >MANIFEST.tsv
