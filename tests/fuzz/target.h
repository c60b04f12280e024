// FuzzTarget: one way in for bytes and texts from outside. Driven by libFuzzer (libfuzzer_main.cc)
// and, for the suite, by a plain program (replay_main.cc). A target ends the process where
// something is wrong, and never minds what it is given. Works in memory, on the calling thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace imgconv::fuzz {

using Bytes = std::span<const std::byte>;

struct FuzzTarget {
  std::string_view name;
  void (*run)(Bytes bytes);
  /// The bytes are a qcow2 image, or as much of it as mutate_qcow2() needs.
  bool is_qcow2 = false;
};

/// In the order in which they are declared.
std::vector<FuzzTarget> all_targets();
/// Null when there is none.
const FuzzTarget* find_target(std::string_view name);

/// Parsers of bytes and texts alone: parsers.cc.
std::span<const FuzzTarget> parser_targets();
/// Whole images: images.cc.
std::span<const FuzzTarget> image_targets();

}  // namespace imgconv::fuzz
