#!/bin/bash
# The transcripts of tests/cli/cases while the system does less than it could: each fault of
# tests/cli/faulty_io.cc. With short transfers, the unit tests, too.
#
#   tests/faults.sh [BUILD [FAULT...]]      (default: build, and every fault)
#
# Ends with 1 if a test fails. What a fault changes on purpose is left out.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-$root/build}")
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- short fallocate seek direct tmpfile locks clone
transcripts=$(cd "$root/tests/cli/cases" && printf '%s|' *.txt | sed 's/\.txt//g; s/|$//')

declare -A left_out=(
  # A cache mode that needs O_DIRECT is refused, in qemu-img's words.
  [direct]='amend|contract_1|contract_2|convert_images|names|samples'
  # What a commit empties keeps its space in an external data file; zeros are written.
  [fallocate]='commit|odd_names'
  # Holes are not known to be holes: map, measure and compare say so, as qemu-img does.
  [seek]='compare|contract_2|contract_3|map|measure|names|nodes|odd_names|samples')

status=0
for fault in "$@"; do
  tests="^cli\\.(${transcripts})\\.imgconv\$"
  [ "$fault" != short ] || tests+='|^unit\.'
  echo "== $fault"
  IMGCONV_FAULTS=$fault LD_PRELOAD=$build/tests/cli/libfaulty_io.so \
    ctest --test-dir "$build" --output-on-failure -R "$tests" \
    -E "^cli\\.(${left_out[$fault]:-none})\\." || status=1
done
exit "$status"
