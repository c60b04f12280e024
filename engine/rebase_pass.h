// RebasePass: what a safe rebase does between opening and the change of the header: finds where the
// image relies on its backing file, compares old and new, and writes the old content where they
// differ. Steps of an OrderedPass. Loop thread only; compares on the pool.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/image_chain.h"
#include "engine/messages.h"
#include "loop/executor.h"
#include "loop/io_buffer.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

/// Old and new, as they were opened.
struct RebaseSides {
  explicit RebaseSides(ImageChain& image_chain) : chain(image_chain) {}

  /// The image over its old backing files.
  ImageChain& chain;
  /// The new backing file is this layer of `chain`, or the top of `new_chain`, or there is none.
  std::optional<unsigned> new_depth;
  ImageChain* new_chain = nullptr;
  bool compress = false;
};

class RebasePass {
 public:
  /// A stretch that must be written.
  struct Run {
    uint64_t guest_offset = 0;
    uint64_t length = 0;
    /// The old backing file ends before it.
    bool is_zero = false;
  };
  struct Window {
    uint64_t guest_offset = 0;
    uint64_t length = 0;
    IoBuffer old_buffer;
    IoBuffer new_buffer;
    std::vector<Run> runs;

    std::span<std::byte> old_bytes() { return old_buffer.span().first(length); }
    std::span<std::byte> new_bytes() { return new_buffer.span().first(length); }
    uint64_t guest_end() const { return guest_offset + length; }
  };

  /// All must outlive the pass.
  RebasePass(const RebaseSides& sides, Executor& executor, Messages& messages);

  /// The next range that the image does not hold itself and that the layers which go away may hold.
  Task<Result<bool>> claim(Window& window);
  Task<Result<void>> prepare(Window& window);
  Task<Result<void>> write(Window& window);

 private:
  /// What the image says of the range from position_ on, at most `length` bytes of it.
  Task<Result<Extent>> image_extent(uint64_t length);
  /// What the image holds stays where it is. Its file must have it (E11): once the file grows, what
  /// was cut off looks like zeros.
  Result<void> check_kept(const Extent& extent);
  /// How much of [position_, position_ + length) is of one kind: held by a layer between image and
  /// new backing file (true), or not, so that old and new are the same there.
  struct BetweenStatus {
    uint64_t length = 0;
    bool is_changed = true;
  };
  Task<Result<BetweenStatus>> between_status(uint64_t length);
  /// Neither side has data in the window.
  Task<Result<bool>> is_zero_on_both_sides(const Window& window);
  Task<Result<void>> read(Window& window);
  void compare(Window& window) const;
  Task<Result<void>> write_run(Window& window, const Run& run);
  Task<Result<void>> write_zeros(const Run& run);

  const RebaseSides& sides_;
  Executor& executor_;
  Messages& messages_;
  const uint64_t size_;
  const uint64_t old_size_;
  /// Windows and runs are multiples of it: what is written needs nothing from below.
  uint64_t alignment_ = 1;

  uint64_t position_ = 0;
  /// The image's own extents around position_; what is written lies before them.
  ExtentList mapped_;
  size_t next_mapped_ = 0;
  /// Of the file that holds the image's data, before the pass writes to it.
  std::optional<uint64_t> kept_file_length_;
};

}  // namespace imgconv
