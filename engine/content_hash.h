// ContentHash: a checksum of a range of the disk that does not depend on how its zeros are stored,
// nor on the pieces in which it is looked at. Zeros cost nothing: sectors of zeros are left out,
// and stretches of other sectors count with where they begin and end.
//
// For comparing what was written with what is read back. Used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/message_digest.h"
#include "loop/result.h"

namespace imgconv {

class ContentHash {
 public:
  static Result<ContentHash> make();

  /// The bytes at `guest_offset`, which lie behind those of earlier calls; what was left out in
  /// between are zeros. Requires: guest_offset is a multiple of 512, and so is the length unless
  /// nothing follows.
  void add(uint64_t guest_offset, std::span<const std::byte> bytes);
  /// The hash; the object begins anew.
  std::vector<std::byte> finish();

 private:
  explicit ContentHash(MessageDigest digest) : digest_(std::move(digest)) {}
  void end_stretch();

  MessageDigest digest_;
  /// The stretch of sectors that goes on, if any.
  uint64_t stretch_begin_ = 0;
  uint64_t stretch_end_ = 0;
  std::vector<uint64_t> bitmap_;
};

}  // namespace imgconv
