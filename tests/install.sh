#!/bin/bash
# Installs what imgconv needs on Debian 12, as root or through sudo.
#
#   tests/install.sh build      what the build needs
#   tests/install.sh test       also what the tests need: Catch2, Relacy, the genuine qemu-utils
set -euo pipefail

build=(g++ cmake ninja-build pkg-config zlib1g-dev libzstd-dev libdeflate-dev libfmt-dev
       liburing-dev libexpected-dev nlohmann-json3-dev)
test=(catch2 relacy-dev qemu-utils python3 openssl e2fsprogs)

case ${1:?usage: tests/install.sh build|test} in
  build) wanted=("${build[@]}") ;;
  test) wanted=("${build[@]}" "${test[@]}") ;;
  *) echo "usage: $0 build|test" >&2; exit 1 ;;
esac

missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
[ "$(id -u)" -eq 0 ] || sudo=(sudo)
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
