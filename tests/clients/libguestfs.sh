# libguestfs makes disks and overlays with qemu-img, asks it what an image is, and virt-sparsify copies
# with it. Its appliance is a small virtual machine; it gets no KVM, which is not the same everywhere, and
# needs a kernel: one in /boot, or unpacked elsewhere and named by SUPERMIN_KERNEL and SUPERMIN_MODULES.
for tool in guestfish virt-make-fs virt-sparsify nbdcopy debugfs; do
  command -v $tool >/dev/null || { echo "libguestfs-tools, libnbd-bin or e2fsprogs is not installed"; exit 77; }
done
export LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg LIBGUESTFS_CACHEDIR="$PWD"
truncate -s 1M probe
guestfish --format=raw -a probe run >probe.log 2>&1 || { echo "the appliance does not start: $(tail -1 probe.log)"; exit 77; }

# $1: image of a file system, $2: what /motd holds. Read without qemu-img.
holds() {
  nbdcopy -- [ qemu-nbd -r -f qcow2 "$1" ] "$1.raw"
  [ "$(debugfs -R 'cat /motd' "$1.raw" 2>/dev/null)" = "$2" ]
}

mkdir tree
echo hello >tree/motd
head -c 3000000 /dev/zero | tr '\0' x >tree/large
virt-make-fs --type=ext4 --format=qcow2 --size=+4M tree made.qcow2
holds made.qcow2 hello

# An overlay as libguestfs asks for it, and what it tells of it.
guestfish <<EOF
disk-create over.qcow2 qcow2 -1 backingfile:made.qcow2 backingformat:qcow2
disk-create wide.qcow2 qcow2 64M compat:1.1 clustersize:4096 preallocation:metadata
disk-create plain.raw raw 3M preallocation:full
EOF
cat >asks <<EOF
disk-format made.qcow2
disk-format over.qcow2
disk-has-backing-file over.qcow2
disk-has-backing-file made.qcow2
disk-virtual-size wide.qcow2
disk-virtual-size plain.raw
EOF
[ "$(guestfish <asks | tr '\n' ' ')" = "qcow2 qcow2 true false 67108864 3145728 " ]

# Writing to the overlay leaves what is below; a drive that is opened read-only gets an overlay, too.
guestfish --format=qcow2 -a over.qcow2 run : mount /dev/sda / : write /motd changed : rm /large
holds over.qcow2 changed
holds made.qcow2 hello
[ "$(guestfish --ro --format=qcow2 -a over.qcow2 run : mount-ro /dev/sda / : cat /motd)" = changed ]

virt-sparsify --quiet --tmp "$PWD" over.qcow2 --convert qcow2 --compress sparse.qcow2
holds sparse.qcow2 changed
[ "$(stat -c %s sparse.qcow2)" -lt 1000000 ]
