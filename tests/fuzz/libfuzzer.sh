#!/bin/bash
# Builds tests/fuzz/parsers.cc with clang's libFuzzer, ASan and UBSan, and runs it.
#
#   tests/fuzz/libfuzzer.sh FOLDER SECONDS     FOLDER keeps the program, the corpus and what was found
#
# Begins with the images and texts of the tree. Exit status 77 where clang is missing.
set -euo pipefail

folder=${1:?usage: libfuzzer.sh FOLDER SECONDS} seconds=${2:?usage: libfuzzer.sh FOLDER SECONDS}
root=$(cd "$(dirname "$0")/../.." && pwd)
command -v clang++ >/dev/null || { echo "clang++ is missing"; exit 77; }
mkdir -p "$folder/objects" "$folder/corpus"

sources=(tests/fuzz/parsers.cc loop/error.cc
         engine/{image_name,json_name,json_string,option_pieces}.cc
         formats/{codec,codec_deflate,codec_zstd,option_size,options}.cc
         formats/deflate_{block,encoder,huffman}.cc
         formats/qcow2/{bitmap_directory,header,header_extension,snapshot,table_io}.cc)
sources+=(loop/memory_model/litmus{,_lexer,_thread}.cc)
objects=()
for source in "${sources[@]}"; do
  object=$folder/objects/${source//\//_}.o
  objects+=("$object")
  [ "$object" -nt "$root/$source" ] ||
    clang++ -std=c++20 -O1 -g -I"$root" -fsanitize=fuzzer-no-link,address,undefined \
      -fno-sanitize=function -fno-sanitize-recover=undefined -c "$root/$source" -o "$object"
done
clang++ -fsanitize=fuzzer,address,undefined "${objects[@]}" -o "$folder/parsers" \
  -lfmt -lz -lzstd -ldeflate

python3 - "$root" "$folder/corpus" <<'PYTHON'
import pathlib, sys
root, corpus = map(pathlib.Path, sys.argv[1:])
sys.path.insert(0, str(root / "tests" / "cli"))
from hostile_images import IMAGES
seeds = [(0, make().data[:4096]) for _, make in IMAGES]
seeds += [(1, b"\1" + make().data[6 * 4096:7 * 4096]) for name, make in IMAGES if name.startswith("snapshot_")]
seeds += [(2, b"\1" + make().data[6 * 4096:6 * 4096 + 64]) for name, make in IMAGES if name.startswith("bitmap_")]
seeds += [(3 if name.startswith("deflate") else 4, make().data[6 * 4096:7 * 4096])
          for name, make in IMAGES if name.startswith(("deflate", "zstd"))]
texts = [b"size=1G,flag,name=a,,b,number=3", b"size=1.5k", b"flag=maybe"]
seeds += [(5, text) for text in texts]
seeds += [(6, b'json:{"driver":"qcow2","file":{"driver":"file","filename":"a"},"backing":null}'),
          (6, b'json:{"file.filename":"a\\u0000","offset":512,"size":1024}'), (6, b"file:a:b")]
seeds += [(7, b"driver=qcow2,file.driver=file,file.filename=a,backing.file.filename=b")]
seeds += [(8, path.read_bytes()) for path in root.glob("loop/**/*.litmus")]
seeds += [(8, b"C sb\n{}\nP0(int* x, int* y) { *x = 1; int r0 = *y; }\nexists (0:r0=0)\n")]
for number, (kind, data) in enumerate(seeds):
    (corpus / f"seed-{number}").write_bytes(bytes([kind]) + bytes(data))
PYTHON
cd "$folder"
./parsers -max_total_time="$seconds" -max_len=8192 -timeout=5 -rss_limit_mb=512 -print_final_stats=1 corpus
