#!/bin/bash
# The promises that a compiler does not check: layers include only what is below them, files fit in
# the head, fences stay in loop/, and the top level holds what the README says.
#
#   tests/rules/structure.sh [ROOT]
set -uo pipefail

cd "${1:-$(dirname "$0")/../..}"
failed=0
complain() { echo "$1" >&2; failed=1; }

# layer: the first path elements it may include.
declare -A may_include=(
  [loop]='loop' [formats]='formats|loop' [engine]='engine|formats|loop'
  [cmd]='cmd|engine|formats|loop')
for layer in "${!may_include[@]}"; do
  wrong=$(grep -rnE '^#include "' "$layer" --include='*.h' --include='*.cc' |
    grep -vE "#include \"(${may_include[$layer]})/")
  [ -z "$wrong" ] || complain "$layer/ may include only ${may_include[$layer]}:"$'\n'"$wrong"
done

wrong=$(grep -rlE '#include [<"](formats/)?qcow2/' engine cmd)
[ -z "$wrong" ] || complain "qcow2's internals are used outside formats/: $wrong"

# std::atomic and fences are loop/'s alone (ARCHITECTURE rule 18).
wrong=$(grep -rnE 'std::atomic|memory_order|atomic_thread_fence' formats engine cmd --include='*.h' --include='*.cc')
[ -z "$wrong" ] || complain "atomics outside loop/:"$'\n'"$wrong"

while IFS= read -r file; do
  lines=$(wc -l <"$file")
  [ "$lines" -le 500 ] || complain "$file has $lines lines, more than 500"
done < <(find loop formats engine cmd tests -name '*.h' -o -name '*.cc' -o -name '*.py' | sort)
for file in loop formats engine tests images; do
  lines=$(wc -l <"$file/README.md") || failed=1
  [ "$lines" -le 150 ] || complain "$file/README.md has $lines lines, more than 150"
done

if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
  expected='CMakeLists.txt CMakePresets.json LICENSE README.md cmd engine formats images loop tests'
  actual=$(git ls-files | cut -d/ -f1 | grep -v '^\.' | LC_ALL=C sort -u | xargs)
  [ "$actual" = "$expected" ] || complain "top level: $actual"
fi

[ "$failed" -eq 0 ] && echo "structure: as promised"
exit "$failed"
