#!/bin/bash
# The first command of the README: installs what the build needs, builds build/imgconv, converts a
# real image from qcow2 to raw and compares the result with the manifest's checksum.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build}
image=ext4-zlib.qcow2

"$root/tests/install.sh" build
cmake -S "$root" --preset release -B "$build" -DBUILD_TESTING=OFF >/dev/null
cmake --build "$build" --target imgconv

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(set -x; "$build/imgconv" convert -p -f qcow2 -O raw "$root/images/$image" "$work/disk.raw")
expected=$(awk -F'\t' -v file="$image" '$1 == file { print $4 }' "$root/images/MANIFEST.tsv")
echo "$expected  $work/disk.raw" | sha256sum --check
echo "$image: the guest's bytes are those of the manifest ($expected)"
