// ImageChain: a top image plus its backing layers, read as one disk.
//
// The walk down the chain, the rule that a short backing image reads as zeros past its end and the
// merging of answers are written here and nowhere else. Loop thread only; offsets are guest bytes.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/image_name.h"
#include "formats/image.h"
#include "loop/executor.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

/// A node below an image: a file, or a part of one.
struct NodeBelow {
  std::string name;
  uint64_t length = 0;
  bool is_block_device = false;
};

/// One layer as it was opened.
struct Layer {
  /// The name it was opened by: as given for the top, resolved for backing images.
  std::string name;
  std::string format;
  /// No format was given and the probe said raw.
  bool was_guessed_raw = false;
  /// What lies below the image where that is more than a file: the file, then the parts of it.
  std::vector<NodeBelow> nodes_below;
  /// How to open it again, with every option of a json: name; null when it was not opened by name.
  std::unique_ptr<ImageSpec> spec;
  std::unique_ptr<Image> image;
};

/// An extent of the whole disk. kUnallocated here means: none of the layers looked at has it.
struct ChainExtent {
  Extent extent;
  /// 0 is the top. For kUnallocated the deepest layer looked at; for "beyond a shorter backing
  /// image" the layer whose backing ended (CLI.md section 5).
  unsigned depth = 0;
  /// Some layer answered (data, zero or compressed): `map`'s "present".
  bool is_present = false;
};

/// The part [begin, end) of an extent. Requires: it lies inside the extent and is not empty.
Extent slice_extent(const Extent& extent, uint64_t begin, uint64_t end);

inline constexpr unsigned kAllLayers = std::numeric_limits<unsigned>::max();

class ImageChain {
 public:
  ImageChain(std::vector<Layer> layers, Executor& executor);
  ~ImageChain();

  const std::vector<Layer>& layers() const { return layers_; }
  /// Another image for a layer, as the same file opened in another way. Null while it is being
  /// opened; until then, and after a failure, nothing but close() may be called.
  void replace_image(unsigned depth, std::unique_ptr<Image> image) {
    layers_[depth].image = std::move(image);
  }
  Image& top() { return *layers_.front().image; }
  const Image& top() const { return *layers_.front().image; }
  /// Bytes, rounded up to 512.
  uint64_t virtual_size() const;
  /// The same of the layer at this depth. Requires: there is one.
  uint64_t layer_size(unsigned depth) const;

  /// Extents from `guest_offset` on, at least one, adjacent, inside the range; boundaries are those
  /// of QEMU's block status over a chain. Looks at no more than `max_depth` layers. May stop early,
  /// so that an answer stays small. Requires: length > 0, the range lies inside the virtual size.
  Task<Result<std::vector<ChainExtent>>> map(uint64_t guest_offset, uint64_t length,
                                             unsigned max_depth = kAllLayers);
  /// Extents of the layers [first, end) alone: kUnallocated means that none of them has it.
  /// Requires: first < end, which is at most the number of layers; the range lies inside the layer
  /// `first`.
  Task<Result<std::vector<ChainExtent>>> map_layers(unsigned first, unsigned end,
                                                    uint64_t guest_offset, uint64_t length);
  /// Fills the buffer with guest bytes; unallocated ranges and anything past the end become zeros.
  Task<Result<void>> read(uint64_t guest_offset, std::span<std::byte> buffer);
  /// The same without the layers above `first`; zeros when there is none from `first` on. For 1,
  /// this is what a write that covers a cluster of the top only in part must keep.
  Task<Result<void>> read_layers(unsigned first, uint64_t guest_offset,
                                 std::span<std::byte> buffer);
  /// Closes every layer, the top first, and returns the first error. Must be awaited before
  /// destruction when the top is writable.
  Task<Result<void>> close();

 private:
  using ChainExtents = std::vector<ChainExtent>;

  Task<Result<ChainExtents>> map_first(unsigned depth, uint64_t guest_offset, uint64_t length);
  Task<Result<ChainExtents>> fill_from(unsigned depth, const ChainExtents& upper);

  std::vector<Layer> layers_;
  Executor& executor_;
};

}  // namespace imgconv
