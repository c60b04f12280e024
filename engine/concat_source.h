// ConcatSource: one or more image chains end to end, as the source of a convert.
//
// Knows where each part begins and how its block status must be rounded; the walk down a chain is
// ImageChain's. Owns the chains. Loop thread only; offsets are guest bytes of the whole.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/image_chain.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

class ConcatSource {
 public:
  struct Part {
    std::unique_ptr<ImageChain> chain;
    uint64_t guest_offset = 0;
    uint64_t length = 0;  ///< Rounded up to 512.
    /// Status runs end at multiples of this, counted from the part's begin, where they can.
    uint64_t alignment = 0;

    uint64_t guest_end() const { return guest_offset + length; }
  };

  /// EFBIG when the sizes do not add up in 63 bits.
  static Result<ConcatSource> make(std::vector<std::unique_ptr<ImageChain>> chains);

  uint64_t virtual_size() const { return virtual_size_; }
  /// Requires: guest_offset < virtual_size().
  const Part& part_at(uint64_t guest_offset) const;
  const std::vector<Part>& parts() const { return parts_; }
  bool prefers_async() const;

  /// As ImageChain::map, with offsets of the whole; the answer ends with the part.
  Task<Result<std::vector<ChainExtent>>> map(uint64_t guest_offset, uint64_t length,
                                             unsigned max_depth) const;

 private:
  std::vector<Part> parts_;
  uint64_t virtual_size_ = 0;
};

}  // namespace imgconv
