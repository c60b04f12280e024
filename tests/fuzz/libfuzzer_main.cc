// libFuzzer's side of the targets: $IMGCONV_FUZZ_TARGET names the one that runs. Built by
// libfuzzer.sh with clang.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/fuzz/qcow2_mutator.h"
#include "tests/fuzz/target.h"

using imgconv::fuzz::FuzzTarget;

namespace {

const FuzzTarget* target = nullptr;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* name = std::getenv("IMGCONV_FUZZ_TARGET");
  target = imgconv::fuzz::find_target(name == nullptr ? "" : name);
  if (target != nullptr) return 0;
  std::fputs("IMGCONV_FUZZ_TARGET is none of:", stderr);
  for (const FuzzTarget& one : imgconv::fuzz::all_targets()) {
    std::fprintf(stderr, " %s", std::string(one.name).c_str());
  }
  std::fputs("\n", stderr);
  std::exit(1);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  target->run(std::as_bytes(std::span(data, size)));
  return 0;
}

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  if (!target->is_qcow2 || seed % 3 == 0) return LLVMFuzzerMutate(data, size, max_size);
  imgconv::fuzz::mutate_qcow2({data, size}, seed);
  return size;
}
