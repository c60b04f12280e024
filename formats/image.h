// Image: one open layer of one format. It answers for its own layer only: the walk down a backing
// chain is the engine's (ImageChain). Loop thread only; every offset and length is in bytes.
#pragma once

#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/bitmap_store.h"
#include "formats/extent.h"
#include "formats/info_value.h"
#include "formats/options.h"
#include "formats/preallocation_mode.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

/// An internal snapshot as its table describes it.
struct SnapshotInfo {
  std::string id;
  std::string name;
  uint64_t vm_state_size = 0;
  uint32_t date_sec = 0;
  uint32_t date_nsec = 0;
  uint64_t vm_clock_nsec = 0;
  std::optional<uint64_t> icount;
};

/// What `info` tells of a layer; nothing of it was read from data clusters.
struct ImageInfo {
  std::string format;
  uint64_t virtual_size = 0;  ///< As guests see it, in bytes.
  std::optional<uint64_t> cluster_size;
  /// The smallest range that the image can hold by itself: the cluster, unless it has subclusters.
  std::optional<uint64_t> subcluster_size;
  /// As the header states them; empty when there is no backing image.
  std::string backing_file;
  std::string backing_format;
  bool is_encrypted = false;
  bool is_dirty = false;
  std::vector<SnapshotInfo> snapshots;
  /// "Format specific information": members of {"type", "data"}.data; empty optional for raw.
  std::optional<InfoValue> specific;
};

/// What `check` may change: nothing, refcounts that are too high, whatever can be repaired.
enum class RepairMode : uint8_t { kNone, kLeaks, kAll };

/// Result of `check`: the counters of QEMU's BdrvCheckResult (CLI.md section 7).
struct CheckReport {
  uint64_t corruptions = 0;
  uint64_t leaks = 0;
  uint64_t check_errors = 0;
  uint64_t corruptions_fixed = 0;
  uint64_t leaks_fixed = 0;
  uint64_t image_end_offset = 0;
  uint64_t total_clusters = 0;
  uint64_t allocated_clusters = 0;
  uint64_t fragmented_clusters = 0;
  uint64_t compressed_clusters = 0;
};

/// Lines that `check` prints to stderr while it goes, without newline.
using CheckSink = std::function<void(const std::string& line)>;

/// Reads what lies below a target image, for a cluster that is written only in part. Fills the
/// whole span; zeros where there is no backing data.
using BackingReader =
    std::function<Task<Result<void>>(uint64_t guest_offset, std::span<std::byte> buffer)>;

/// How the engine must prepare compressed clusters for this image.
struct CompressionInfo {
  Codec codec = Codec::kDeflate;
  uint64_t cluster_size = 0;
};

/// The longest disk of QEMU's block layer: the largest int64 that is a multiple of its largest
/// request alignment of 1 GiB.
inline constexpr uint64_t kMaxDiskSize = 0x7fffffffc0000000;

/// A new size for the disk.
struct ResizeRequest {
  uint64_t virtual_size = 0;
  /// Of what is added. Requires: kOff when the disk becomes smaller.
  Preallocation preallocation = Preallocation::kOff;
  /// Size of the backing image, 0 without one: what is added must not show it.
  uint64_t backing_size = 0;
};

struct AmendRequest {
  /// Those given, parsed against BlockDriver::amend_options().
  OptionValues options;
  /// Size of the backing image, 0 without one: as in ResizeRequest.
  uint64_t backing_size = 0;
  /// Told of work done and work to do, in units of the driver's.
  std::function<void(uint64_t done, uint64_t total)> progress;
};

class Image {
 public:
  Image() = default;
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;
  virtual ~Image() = default;

  virtual const ImageInfo& info() const = 0;
  /// The file that holds the image (metadata, and data unless there is an external data file).
  virtual File& file() = 0;
  /// All files that the guest's data and the metadata are in.
  virtual std::vector<File*> files() { return {&file()}; }

  /// Extents of [guest_offset, guest_offset + length), ascending, adjacent, beginning at
  /// guest_offset; may stop early, but returns at least one. Each extent ends where QEMU's driver
  /// would end it (L2 slice, host discontinuity, one compressed cluster), because -S and `map`
  /// depend on it. Requires: length > 0, the range lies inside the virtual size.
  virtual Task<Result<ExtentList>> map(uint64_t guest_offset, uint64_t length) = 0;

  /// From now on the image shows the internal snapshot with this id or, failing that, name.
  /// "Can't find snapshot".
  virtual Task<Result<void>> load_snapshot(const std::string& id_or_name) = 0;

  /// Verifies the metadata without changing it. ENOTSUP: "This image format does not support
  /// checks".
  virtual Task<Result<CheckReport>> check(const CheckSink& sink) = 0;

  /// The persistent bitmaps; null when the format knows none.
  virtual BitmapStore* bitmaps() { return nullptr; }

  // ---- Writing. Requires: opened writable. ----

  /// Verifies the metadata and repairs what `mode` allows. Requires: opened for_check.
  /// ENOTSUP as in check().
  virtual Task<Result<CheckReport>> repair(RepairMode mode, const CheckSink& sink);

  /// Reserves host space for the guest range and returns where its bytes go, ascending. The order
  /// of calls decides the layout. Parts of newly allocated clusters outside the range are filled
  /// from below before it returns. The range is not visible until link().
  virtual Task<Result<std::vector<HostRun>>> reserve(uint64_t guest_offset, uint64_t length) = 0;
  /// Makes reserved and written space visible. Same range as in reserve().
  virtual Task<Result<void>> link(uint64_t guest_offset, uint64_t length) = 0;
  /// The range reads as zeros afterwards. `may_unmap`: its space may be given back.
  virtual Task<Result<void>> write_zeroes(uint64_t guest_offset, uint64_t length,
                                          bool may_unmap) = 0;
  /// How to compress for this image; nothing when the format cannot.
  virtual std::optional<CompressionInfo> compression() const = 0;
  /// Reserves packed host space for one compressed cluster of `payload` bytes. Its stream is not
  /// visible until link() of the guest cluster, or of what the disk has of it.
  virtual Task<Result<HostRun>> reserve_compressed(uint64_t guest_offset, uint64_t payload) = 0;
  /// For partial writes over a backing image; set once by the engine.
  virtual void set_backing_reader(BackingReader reader) = 0;
  /// True when the image, as it was created, read as zeros everywhere, preallocated space included.
  /// For who has just created it: what was written since then is not looked at.
  virtual bool reads_as_zeros_initially() const = 0;
  /// Could a write free older clusters of the guest? Later writes may be placed there.
  virtual bool holds_clusters() const { return false; }

  // ---- Changing the image as a whole. Requires: opened writable, nothing reserved. ----

  /// Makes the disk larger or smaller; a smaller one forgets what was behind its end.
  virtual Task<Result<void>> resize(const ResizeRequest&) {
    co_return Error(ENOTSUP, "Image format driver does not support resize");
  }
  /// Freezes what the guest sees as a snapshot of this name; its id and the size of the VM state
  /// are not the caller's to say.
  virtual Task<Result<void>> create_snapshot(const SnapshotInfo&) {
    co_return Error::from_errno(ENOTSUP);
  }
  /// The guest sees again what the snapshot with this id or, failing that, name froze.
  virtual Task<Result<void>> apply_snapshot(const std::string&) {
    co_return Error(ENOTSUP, "Block driver does not support snapshots");
  }
  /// Forgets the first snapshot with this name. "snapshot not found".
  virtual Task<Result<void>> delete_snapshot(const std::string&) {
    co_return Error(ENOENT, "snapshot not found");
  }
  /// Changes what the image says of itself, by options of BlockDriver::amend_options().
  virtual Task<Result<void>> amend(const AmendRequest&) { co_return Error::from_errno(ENOTSUP); }

  // ---- Ending. ----

  /// Writes metadata out in an order that keeps the image consistent; does not sync unless `sync`.
  virtual Task<Result<void>> flush(bool sync) = 0;
  /// Another backing file, or none if `name` is empty, in the image's header; what was written
  /// before is in the file first, so that no crash shows it over the wrong backing file. The layers
  /// of a chain that is open do not change. ENOTSUP: the format has no backing files.
  virtual Task<Result<void>> change_backing(const std::string& name, const std::string& format);
  /// Takes back what CreateImageOptions::is_incomplete wrote. Everything else was flushed before.
  virtual Task<Result<void>> mark_complete() { co_return ok(); }
  /// Everything the image holds is given up, so that it shows what is below. ENOTSUP: the format
  /// has no backing files. Requires: nothing is reserved; only close() follows.
  virtual Task<Result<void>> make_empty();
  /// Last words to the image: flush(false), drop what was reserved in vain. Must be awaited before
  /// a written image is destroyed; destructors do no I/O.
  virtual Task<Result<void>> close() = 0;
};

}  // namespace imgconv
