#!/bin/bash
# Unpacks qemu-img, qemu-io and qemu-nbd 10.0.2 into DIRECTORY/usr/bin, beside the system's 7.2.
#
#   tests/fetch_qemu_img_10.sh DIRECTORY [--source]
#
# With --source also QEMU's source tree, of which tests/iotests/run uses the tests, into DIRECTORY/src.
# They come from Debian 12's backports. The machine's own sources say which archive serves it; they
# are read, not changed. The tests that compare texts need this version and skip without it.
set -euo pipefail

directory=${1:?usage: tests/fetch_qemu_img_10.sh DIRECTORY [--source]}
with_source=${2:-}
mkdir -p "$directory"
directory=$(realpath "$directory")
has_source() { [ "$with_source" != --source ] || [ -x "$directory/src/tests/qemu-iotests/check" ]; }
[ -x "$directory/usr/bin/qemu-img" ] && has_source && exit 0

sources=(/etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources)
archive=$(cat "${sources[@]}" 2>/dev/null |
  awk '$1 == "URIs:" && $2 ~ /debian\/?$/ { print $2; exit }
       $1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /debian\/?$/) { print $i; exit } }') || true
[ -n "$archive" ] || { echo "no Debian archive among the apt sources" >&2; exit 1; }

state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
printf '%s\n' "deb $archive bookworm-backports main" "deb-src $archive bookworm-backports main" \
  >"$state/sources.list"
options=(-o "Dir::Etc::sourcelist=$state/sources.list" -o "Dir::Etc::sourceparts=-"
         -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache"
         -o "APT::Sandbox::User=root")
cd "$state"
apt-get "${options[@]}" update -qq
apt-get "${options[@]}" download -qq qemu-utils
dpkg -x qemu-utils_*.deb "$directory"
if ! has_source; then
  # Debian's patches change the texts that the tests expect: the original archive is unpacked alone.
  apt-get "${options[@]}" source -qq --download-only qemu
  mkdir -p "$directory/src"
  tar xf qemu_*.orig.tar.xz -C "$directory/src" --strip-components=1
fi
"$directory/usr/bin/qemu-img" --version | head -1
