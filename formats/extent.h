// Extent: what one layer knows of one guest range, and where the bytes are.
//
// Drivers answer a read with extents, so that the engine can move bytes without going back through
// the driver (one trip per chunk, PERFORMANCE.md). A value; any thread. Offsets and lengths are
// bytes; "guest" is the virtual disk, "host" the file that holds the image.
#pragma once

#include <cstdint>
#include <vector>

namespace imgconv {

class File;

enum class ExtentKind : uint8_t {
  kUnallocated,  ///< This layer says nothing: ask the backing image, or zeros without one.
  kZero,         ///< Reads as zeros, whatever is below.
  kData,         ///< The bytes stand in `file` at `host_offset`.
  kCompressed,   ///< One compressed cluster: at most `host_length` bytes at `host_offset`.
};

enum class Codec : uint8_t { kDeflate = 0, kZstd = 1 };

struct Extent {
  uint64_t guest_offset = 0;
  uint64_t length = 0;
  ExtentKind kind = ExtentKind::kUnallocated;
  /// kData: always. kZero: for a preallocated zero cluster and a hole of a raw file.
  bool has_host_offset = false;
  /// kData of a qcow2 image with preallocated metadata: the host range may be a hole, which then
  /// reads as zeros (`map` reports zero and data both).
  bool is_zero = false;
  uint64_t host_offset = 0;
  /// kCompressed: upper bound of the stream's length; the stream may end earlier, and the range may
  /// reach behind the end of the file, where zeros are supplied (QCOW2.md 4.2).
  uint64_t host_length = 0;
  Codec codec = Codec::kDeflate;
  /// kData and kCompressed: the image's cluster size, to which a stream decodes; 0 where there are
  /// no clusters. And where in the decoded cluster a kCompressed extent begins: an extent may be a
  /// part of a cluster.
  uint64_t cluster_size = 0;
  uint64_t offset_in_cluster = 0;
  /// Where the bytes are; never null when has_host_offset or kCompressed. Owned by the image.
  File* file = nullptr;

  uint64_t guest_end() const { return guest_offset + length; }
};

using ExtentList = std::vector<Extent>;

/// A piece of a target that was reserved for a guest range.
struct HostRun {
  uint64_t guest_offset = 0;
  uint64_t host_offset = 0;
  uint64_t length = 0;
  File* file = nullptr;
};

}  // namespace imgconv
