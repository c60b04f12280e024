# cloud-localds (cloud-image-utils) makes the seed disk of a cloud image and has it converted.
command -v cloud-localds >/dev/null && command -v genisoimage >/dev/null ||
  { echo "cloud-image-utils or genisoimage is not installed"; exit 77; }
printf '#cloud-config\npassword: secret\n' >user-data
printf 'instance-id: one\n' >meta-data
cloud-localds -d qcow2 seed.qcow2 user-data meta-data
[ "$(head -c 4 seed.qcow2 | od -An -c | tr -d ' ')" = 'QFI373' ]
qemu-nbd -r -f qcow2 -k "$PWD/socket" seed.qcow2 &
until [ -S socket ]; do kill -0 $!; done
nbdcopy "nbd+unix:///?socket=$PWD/socket" seed.iso
cloud-localds -d raw plain.iso user-data meta-data
grep -aq 'password: secret' seed.iso
# The same file system but for times: as long, and of the same name.
[ "$(isoinfo -d -i seed.iso | grep 'Volume id')" = 'Volume id: cidata' ]
[ "$(stat -c %s seed.iso)" -ge "$(stat -c %s plain.iso)" ]
