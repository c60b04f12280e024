#!/bin/bash
# Installs what imgconv needs on Debian 12, as root or through sudo.
#
#   tests/install.sh build      what the build needs
#   tests/install.sh test       also what the tests need: Catch2, Relacy, the genuine qemu-utils
#   tests/install.sh aarch64    also what the preset aarch64 needs on another machine: cross compiler,
#                               arm64 libraries (adds the architecture to dpkg), qemu-user
set -euo pipefail

build=(g++ cmake ninja-build pkg-config zlib1g-dev libzstd-dev libdeflate-dev libfmt-dev
       liburing-dev libexpected-dev nlohmann-json3-dev libssl3)
aarch64=(g++-aarch64-linux-gnu qemu-user-static zlib1g-dev:arm64 libzstd-dev:arm64
         libdeflate-dev:arm64 libfmt-dev:arm64 liburing-dev:arm64)
test=(catch2 relacy-dev qemu-utils python3 openssl e2fsprogs strace valgrind)

case ${1:?usage: tests/install.sh build|test|aarch64} in
  build) wanted=("${build[@]}") ;;
  test) wanted=("${build[@]}" "${test[@]}") ;;
  aarch64) wanted=("${build[@]}" "${test[@]}" "${aarch64[@]}") ;;
  *) echo "usage: $0 build|test|aarch64" >&2; exit 1 ;;
esac

missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
[ "$(id -u)" -eq 0 ] || sudo=(sudo)
[ "$1" != aarch64 ] || "${sudo[@]}" dpkg --add-architecture arm64
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
