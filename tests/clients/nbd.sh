# qemu-nbd serves what was written, nbdcopy and nbdinfo (libnbd) read it; and back through a raw file.
command -v qemu-nbd >/dev/null && command -v nbdcopy >/dev/null ||
  { echo "qemu-utils or libnbd-bin is not installed"; exit 77; }
head -c 3000000 /dev/urandom >disk.raw
truncate -s 8M disk.raw
for options in cluster_size=4k compat=0.10 extended_l2=on refcount_bits=64 lazy_refcounts=on; do
  qemu-img convert -f raw -O qcow2 -o "$options" disk.raw disk.qcow2
  nbdcopy -- [ qemu-nbd -r -f qcow2 disk.qcow2 ] copy.raw
  cmp disk.raw copy.raw
done
qemu-img convert -c -f raw -O qcow2 -o compression_type=zstd disk.raw packed.qcow2
nbdinfo --size -- [ qemu-nbd -r -f qcow2 packed.qcow2 ] | grep -qx 8388608
# What a guest would have written comes back.
nbdcopy disk.raw -- [ qemu-nbd -f qcow2 disk.qcow2 ]
qemu-img convert -f qcow2 -O raw disk.qcow2 back.raw
cmp disk.raw back.raw
