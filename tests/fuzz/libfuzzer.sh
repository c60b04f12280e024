#!/bin/bash
# Builds the targets of tests/fuzz with clang's libFuzzer, ASan and UBSan, and runs them in turn.
#
#   tests/fuzz/libfuzzer.sh FOLDER SECONDS [TARGET...]
#
# SECONDS for each target. FOLDER keeps the program, the corpora, what was found, and a line for each
# run in FOLDER/figures: target, seconds, executions, features, inputs, findings. Goes on after a
# finding; ends with 1 if there was one, with 77 where clang is missing.
set -euo pipefail

folder=$(realpath -m "${1:?usage: libfuzzer.sh FOLDER SECONDS [TARGET...]}")
seconds=${2:?usage: libfuzzer.sh FOLDER SECONDS [TARGET...]}
shift 2
root=$(cd "$(dirname "$0")/../.." && pwd)
command -v clang++ >/dev/null || { echo "clang++ is missing"; exit 77; }
mkdir -p "$folder/objects" "$folder/found"

cd "$root"
sources=(tests/fuzz/{target,parsers,images,qcow2_mutator,libfuzzer_main}.cc tests/support/mem_file.cc
         engine/{image_name,json_name,json_string,option_pieces}.cc formats/*.cc formats/qcow2/*.cc
         loop/*.cc loop/memory_model/litmus{,_lexer,_thread}.cc)
# One header that is newer makes all objects old.
newest_header=$(find formats loop engine tests -name '*.h' -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2)
objects=()
for source in "${sources[@]}"; do
  object=$folder/objects/${source//\//_}.o
  objects+=("$object")
  if [ "$object" -ot "$source" ] || [ "$object" -ot "$newest_header" ]; then
    # clang 14 has coroutines, but does not say so to the library of g++ 12.
    clang++ -std=c++20 -D__cpp_impl_coroutine=201902L -O1 -gline-tables-only -I. \
      -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=function \
      -fno-sanitize-recover=undefined -c "$source" -o "$object"
  fi
done
clang++ -fsanitize=fuzzer,address,undefined "${objects[@]}" -o "$folder/targets" \
  -lfmt -lz -lzstd -ldeflate -luring

mkdir -p "$folder/hostile"
python3 - tests/cli "$folder/hostile" <<'PYTHON'
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from hostile_images import IMAGES
for name, make in IMAGES:
    data = make().data
    if len(data) <= 65536:
        (pathlib.Path(sys.argv[2]) / name).write_bytes(data)
PYTHON

[ $# -gt 0 ] ||
  set -- walk check change header snapshots bitmaps deflate zstd options names image_opts litmus
status=0
for target in "$@"; do
  case $target in
    walk | check | change | header) seeds=(images/fuzz/qcow2 "$folder/hostile") ;;
    *) seeds=("images/fuzz/$target") ;;
  esac
  mkdir -p "$folder/corpus/$target"
  log=$folder/$target.log
  begin=$SECONDS
  IMGCONV_FUZZ_TARGET=$target "$folder/targets" -max_total_time="$seconds" -max_len=98304 \
    -timeout=300 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$folder/found/$target-" \
    "$folder/corpus/$target" "${seeds[@]}" >"$log" 2>&1 || status=1
  figure() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
  features=$(grep -o 'ft: [0-9]*' "$log" | tail -1)
  echo "$target: $((SECONDS - begin)) s, $(figure number_of_executed_units) executions, ${features:-?}," \
    "$(find "$folder/corpus/$target" -type f | wc -l) inputs," \
    "$(find "$folder/found" -name "$target-*" ! -name '*-slow-unit-*' | wc -l) findings" | tee -a "$folder/figures"
done
exit "$status"
