// The targets without libFuzzer, for the suite: runs what images/fuzz keeps for each of them, and
// what a fixed seed makes of it. Built with any compiler, best with sanitizers.
//
//   fuzz_replay FOLDER CHANGES      FOLDER/TARGET/ has the inputs, FOLDER/qcow2/ those of
//                                   targets for images; CHANGES new ones of each target
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "tests/fuzz/qcow2_mutator.h"
#include "tests/fuzz/target.h"

namespace imgconv::fuzz {
namespace {

using Input = std::vector<char>;

std::vector<Input> read_inputs(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Input> inputs;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

void run(const FuzzTarget& target, const Input& input) {
  target.run(std::as_bytes(std::span(input)));
}

/// Flips, inserts, removes or repeats a few bytes.
void mutate_bytes(Input& input, std::mt19937& random) {
  const size_t at = random() % (input.size() + 1);
  const auto place = input.begin() + static_cast<std::ptrdiff_t>(at);
  const auto end = place + static_cast<std::ptrdiff_t>(std::min<size_t>(input.size() - at, 8));
  switch (random() % 4) {
    case 0:
      if (place != input.end()) *place = static_cast<char>(random());
      return;
    case 1:
      input.insert(place, static_cast<char>(random()));
      return;
    case 2:
      input.erase(place, end);
      return;
    default: {
      const Input piece(place, end);
      input.insert(place, piece.begin(), piece.end());
    }
  }
}

void run_changed(const FuzzTarget& target, const std::vector<Input>& inputs, unsigned changes) {
  std::mt19937 random(1);
  for (unsigned n = 0; n < changes; ++n) {
    Input input = inputs[random() % inputs.size()];
    if (target.is_qcow2) {
      mutate_qcow2({reinterpret_cast<uint8_t*>(input.data()), input.size()},
                   static_cast<uint32_t>(random()));
    } else {
      for (unsigned left = 1 + random() % 4; left > 0; --left) mutate_bytes(input, random);
    }
    run(target, input);
  }
}

}  // namespace
}  // namespace imgconv::fuzz

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: fuzz_replay FOLDER CHANGES\n", stderr);
    return 1;
  }
  const unsigned changes = static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10));
  for (const imgconv::fuzz::FuzzTarget& target : imgconv::fuzz::all_targets()) {
    const std::filesystem::path folder(argv[1]);
    const auto inputs =
        imgconv::fuzz::read_inputs(folder / (target.is_qcow2 ? "qcow2" : target.name));
    if (inputs.empty()) {
      std::printf("%s: no inputs\n", std::string(target.name).c_str());
      return 1;
    }
    for (const auto& input : inputs) imgconv::fuzz::run(target, input);
    imgconv::fuzz::run_changed(target, inputs, changes);
    std::printf("%s: %zu inputs, %u changed ones\n", std::string(target.name).c_str(),
                inputs.size(), changes);
  }
  return 0;
}
