// CommitPass: copies what the layers above a base hold into it. Steps of an OrderedPass.
//
// Windows begin and end with clusters of the base, so that nobody reads a cluster of the base while
// another window replaces it. Loop thread only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/image_chain.h"
#include "engine/messages.h"
#include "engine/rate_limit.h"
#include "loop/executor.h"
#include "loop/io_buffer.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

class CommitPass {
 public:
  struct Piece {
    uint64_t guest_offset = 0;
    uint64_t length = 0;
    bool is_zero = false;
  };
  struct Window {
    uint64_t guest_offset = 0;
    uint64_t length = 0;
    /// What is to be copied.
    std::vector<Piece> pieces;
    IoBuffer buffer;
  };

  /// `base` is the depth of the target in `chain`, which is writable. The references must outlive
  /// the pass. `rate_limit`: bytes per second, 0 for none.
  CommitPass(ImageChain& chain, unsigned base, uint64_t rate_limit, Executor& executor,
             Messages& messages);

  Task<Result<bool>> claim(Window& window);
  Task<Result<void>> prepare(Window& window);
  Task<Result<void>> write(Window& window);

 private:
  bool is_held_above(const ChainExtent& piece) const;
  /// Stretches of [begin, end) that a layer above the base holds, in units of granularity_.
  Task<Result<std::vector<Piece>>> held_above(uint64_t begin, uint64_t end);
  /// Cuts a stretch into what is zeros and what is to be read.
  Task<Result<void>> append_pieces(const Piece& held, std::vector<Piece>& pieces);
  /// Moves position_ over windows in which no layer above the base has anything, as far as one look
  /// tells.
  Task<Result<void>> skip_empty();
  Task<Result<void>> wait_for_rate(const Window& window);

  ImageChain& chain_;
  const unsigned base_;
  Image& target_;
  Executor& executor_;
  Messages& messages_;
  const uint64_t size_;
  RateLimit rate_limit_;
  /// As QEMU copies: a unit of which a part is held above is copied whole.
  uint64_t granularity_ = 0;
  /// Zeros are told to the base in multiples of this, and written as data otherwise.
  uint64_t zero_alignment_ = 1;
  uint64_t position_ = 0;
};

}  // namespace imgconv
