// What the tests of a convert share: disks of every kind of content and short ways to run one.
//
// Everything happens in memory, on one thread. Not for the images' formats, which have their own
// tests; Qcow2Builder makes what is read here.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "engine/convert.h"
#include "loop/units.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"
#include "tests/support/recording_messages.h"

namespace imgconv::test {

using Bytes = std::vector<std::byte>;

/// For disks of MiB: Catch would print both sides of a failed ==.
inline bool is_equal(const Bytes& a, const Bytes& b) { return a == b; }

inline ConvertOptions options_for(const std::string& source, const std::string& target,
                                  const std::string& format) {
  ConvertOptions options;
  options.sources = {source};
  options.target = target;
  options.target_format = format;
  return options;
}

/// Data, written zeros and lone zero sectors, from the seed alone.
inline Bytes random_disk(uint64_t seed, size_t sectors) {
  std::mt19937_64 random(seed);
  Bytes disk(sectors * kSectorSize);
  for (size_t at = 0; at < sectors;) {
    const size_t length = std::min(sectors - at, size_t{1} + random() % 400);
    if (random() % 2 == 0) {
      fill_pattern(std::span(disk).subspan(at * kSectorSize, length * kSectorSize),
                   at * kSectorSize);
    }
    at += length;
  }
  return disk;
}

inline Result<ConvertSummary> run_convert(MemStorage& storage, const ConvertOptions& options) {
  RecordingMessages messages;
  return run_inline(convert(storage, options, messages));
}

/// The guest's bytes of an image, as read by converting it to raw.
inline Bytes guest_bytes(MemStorage& storage, const std::string& name) {
  storage.set_wrapper({});
  const auto result = run_convert(storage, options_for(name, "guest-bytes.raw", "raw"));
  REQUIRE_THAT(result, IsOk());
  return storage.bytes("guest-bytes.raw");
}

}  // namespace imgconv::test
