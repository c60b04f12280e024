#!/bin/bash
# Each file of must_not_compile/ has a line marked WRONG. With the line the compiler must refuse the
# file, and say why in the words after "because:"; without it, it must accept it, so that no file
# fails for another reason.
#
#   tests/rules/must_not_compile.sh COMPILER
set -uo pipefail

compiler=${1:?usage: must_not_compile.sh COMPILER}
root=$(cd "$(dirname "$0")/../.." && pwd)
flags=(-std=c++20 -Wall -Wextra -Werror -fsyntax-only -I "$root" -x c++)
failed=0
for file in "$root"/tests/rules/must_not_compile/*.cc; do
  name=$(basename "$file")
  because=$(sed -n 's,.*// WRONG because: ,,p' "$file")
  if ! grep -v '// WRONG' "$file" | "$compiler" "${flags[@]}" - 2>/dev/null; then
    echo "$name: refused even without its wrong line" >&2
    failed=1
  elif said=$("$compiler" "${flags[@]}" "$file" 2>&1); then
    echo "$name: accepted" >&2
    failed=1
  elif ! grep -q "$because" <<<"$said"; then
    echo "$name: refused for another reason than '$because':" >&2
    echo "$said" >&2
    failed=1
  else
    echo "$name: refused: $because"
  fi
done
exit "$failed"
