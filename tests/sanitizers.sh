#!/bin/bash
# Builds and runs the suite under AddressSanitizer with UBSan, and under ThreadSanitizer.
#
#   tests/sanitizers.sh [asan|tsan ...]      (default: both)
#
# The model tests are left out: the checker and the sanitizers both replace the scheduler. The hangs of
# cli.reproduce are left out under ThreadSanitizer: a thread of its run-time wakes again and again, so
# that the reproducer never sees a process sleep for ever, and waits for its time limit each time.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
"$root/tests/install.sh" test
"$root/tests/fetch_qemu_img_10.sh" "$root/build/peer"
export IMGCONV_QEMU_IMG10=$root/build/peer/usr/bin/qemu-img
for preset in "${@:-asan tsan}"; do
  for name in $preset; do
    cmake --preset "$name" >/dev/null
    cmake --build --preset "$name"
    ctest --preset "$name" -j "$(nproc)"
  done
done
