# libvirt's storage driver makes, copies and resizes volumes of a pool with qemu-img, and reads them itself.
# Its daemon runs in a mount namespace of its own, so that it finds nobody's configuration and leaves
# nothing behind; that takes root.
for tool in virsh libvirtd; do
  command -v $tool >/dev/null || { echo "libvirt-daemon or libvirt-clients is not installed"; exit 77; }
done
if [ -z "${IN_NAMESPACE:-}" ]; then
  unshare -m true 2>/dev/null || { echo "not allowed to make a mount namespace"; exit 77; }
  IN_NAMESPACE=yes exec unshare -m sh -eu "$0"
fi

for folder in /etc/libvirt /run/libvirt /var/lib/libvirt /var/cache/libvirt; do
  mkdir -p $folder
  mount -t tmpfs none $folder
done
# The user that the package's full installation makes.
for file in passwd group; do
  { cat /etc/$file; echo 'libvirt-qemu:x:64055:64055::/:/bin/false'; } >$file
  mount --bind $file /etc/$file
done
printf 'unix_sock_dir = "%s"\nauth_unix_rw = "none"\n' "$PWD" >conf
libvirtd -f "$PWD/conf" -p "$PWD/pid" >daemon.log 2>&1 &
daemon=$!
trap 'kill $daemon' EXIT
until [ -S libvirt-sock ]; do kill -0 $daemon; done
pool() {
  verb=$1
  shift
  virsh -c "storage+unix:///system?socket=$PWD/libvirt-sock" "$verb" "$@"
}

mkdir images
pool pool-create-as images dir --target "$PWD/images"
pool vol-create-as images base.qcow2 8M --format qcow2
pool vol-create-as images full.qcow2 8M --format qcow2 --allocation 8M
pool vol-create-as images plain.raw 3M --format raw
pool vol-clone --pool images base.qcow2 copy.qcow2
pool vol-resize --pool images copy.qcow2 16M
pool vol-create-as images top.qcow2 8M --format qcow2 --backing-vol base.qcow2 --backing-vol-format qcow2

# The driver's own reader of headers is the judge, and qemu-nbd.
pool pool-refresh images
pool vol-info --pool images copy.qcow2 | grep -q "^Capacity: *16.00 MiB"
pool vol-dumpxml --pool images top.qcow2 | grep -q "<path>$PWD/images/base.qcow2</path>"
for volume in base copy top; do
  nbdinfo --size -- [ qemu-nbd -r -f qcow2 "images/$volume.qcow2" ]
done
pool vol-delete --pool images top.qcow2
pool pool-destroy images
