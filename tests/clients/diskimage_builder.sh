# diskimage-builder (disk-image-create) has its finished disk compressed and converted; here by the
# function that does it, without the build of a file system, which needs a mirror. One that is only
# unpacked (dpkg -x) is found in $IMGCONV_CLIENTS_ROOT.
library=${IMGCONV_CLIENTS_ROOT:-}/usr/lib/python3/dist-packages/diskimage_builder/lib
[ -e "$library/img-functions" ] || { echo "python3-diskimage-builder is not installed"; exit 77; }
yes disk | head -c 3000000 >disk.raw
truncate -s 16M disk.raw
cat >drive.bash <<'END'
set -eu
sudo() { "$@"; }
. "$1/img-functions"
export TMP_IMAGE_PATH=disk.raw IMAGE_TYPE=qcow2 DIB_IMAGE_CACHE=. IMAGE_NAME=image DIB_CHECKSUM=
finish_image() { mv "$OUT_IMAGE_PATH" "$1"; }
COMPRESS_IMAGE=1 QEMU_IMG_OPTIONS= compress_and_save_image small.qcow2
COMPRESS_IMAGE= QEMU_IMG_OPTIONS=compat=0.10,cluster_size=4096 compress_and_save_image old.qcow2
END
bash drive.bash "$library"
[ "$(od -An -tx1 -j4 -N4 old.qcow2 | tr -d ' ')" = 00000002 ]
[ "$(stat -c %s small.qcow2)" -lt 1000000 ]
for image in small.qcow2 old.qcow2; do
  qemu-nbd -r -f qcow2 -k "$PWD/$image.socket" $image &
  until [ -S $image.socket ]; do kill -0 $!; done
  nbdcopy "nbd+unix:///?socket=$PWD/$image.socket" got.raw
  cmp disk.raw got.raw
done
