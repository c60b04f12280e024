# vmdb2 has its disks made, and puts a partition table into them.
command -v vmdb2 >/dev/null && command -v parted >/dev/null || { echo "vmdb2 is not installed"; exit 77; }
cat >disk.vmdb <<END
steps:
  - mkimg: "{{ output }}"
    size: 16M
  - mklabel: msdos
    device: "{{ output }}"
END
vmdb2 --output disk.img disk.vmdb
[ "$(stat -c %s disk.img)" = 16777216 ]
parted -sm disk.img print | grep -q ':msdos:'
