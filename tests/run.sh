#!/bin/bash
# The second command of the README: installs what is missing, builds, and runs the whole test suite.
#
#   tests/run.sh [CTEST ARGUMENTS...]
#
# $BUILD_DIR names the build folder (default build). Ends with ctest's summary.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build}

"$root/tests/install.sh" test
"$root/tests/fetch_qemu_img_10.sh" "$build/peer" ||
  echo "qemu-img 10.0.2 could not be fetched: the tests that need it will say 'Skipped'" >&2

cmake -S "$root" --preset release -B "$build" -DBUILD_TESTING=ON >/dev/null
cmake --build "$build"
if [ -x "$build/peer/usr/bin/qemu-img" ]; then
  export IMGCONV_QEMU_IMG10=$build/peer/usr/bin/qemu-img
fi
ctest --test-dir "$build" --output-on-failure -j "$(nproc)" "$@"
