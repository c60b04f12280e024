// CheckContext: what the steps of one `check` share: the image, the report and the counts, and the
// way they read and repair metadata. Owned by check.cc; loop thread only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/image.h"
#include "formats/qcow2/check_counts.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/metadata_ranges.h"
#include "formats/qcow2/units.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

class CheckContext {
 public:
  /// All of them must outlive it; the header's owner may move the refcount table meanwhile.
  CheckContext(File& image_file, const Header& image_header, RepairMode repair_mode,
               const CheckSink& line_sink)
      : header(image_header), mode(repair_mode), file_(image_file), sink_(line_sink) {}

  const Header& header;
  const RepairMode mode;
  CheckReport report;
  ReferenceCounts counts;
  /// Whole sectors, as QEMU sees files. See measure_file().
  uint64_t file_length = 0;
  /// One more than the highest cluster that is looked at.
  uint64_t cluster_count = 0;
  /// The refcount structures are beyond a repair in place.
  bool needs_rebuild = false;
  /// What entries refer to behind the end of the file; tables may begin inside. It is not counted,
  /// but nothing new may be put there: zeros are read there now, and that would be read. See
  /// has_lost_track.
  MetadataRanges beyond_file;
  /// There was too much of it; the file must not become longer.
  bool has_lost_track = false;
  /// What no repaired table may be written over.
  MetadataRanges metadata;
  /// A repair was prevented because of `metadata`.
  bool has_found_overlap = false;

  bool may_repair_errors() const { return mode == RepairMode::kAll; }
  File& file() { return file_; }

  /// Sets file_length and cluster_count. EFBIG for files of more clusters than QEMU checks.
  Result<void> measure_file();

  /// Prints a line that changes no counter.
  void say(const std::string& line) { sink_(line); }
  void corruption(const std::string& line) {
    sink_(line);
    ++report.corruptions;
  }

  /// Counts the clusters of [offset, offset + size), `weight` references to each. What lies wholly
  /// behind the file is a corruption and is not counted, which bounds the memory; false then.
  bool add_references(HostOffset offset, uint64_t size, uint64_t weight = 1);

  /// Fills `buffer`, with zeros behind the end of the file. Small tables are read together with
  /// their surroundings, since tables of small clusters lie close to each other.
  Task<Result<void>> read(HostOffset offset, std::span<std::byte> buffer);
  Task<Result<void>> write(HostOffset offset, std::span<const std::byte> data);
  /// Syncs what was written: what is written next must not reach the disk before.
  Task<Result<void>> flush();

  /// EIO, with QEMU's remark, when a write to [offset, offset + size) would hit other metadata.
  Result<void> check_overlap(HostOffset offset, uint64_t size);
  /// The same for metadata that is known to be there.
  Error refuse_overlap(std::string_view name);

 private:
  File& file_;
  const CheckSink& sink_;
  std::vector<std::byte> window_;
  uint64_t window_offset_ = 0;
  bool has_unsynced_writes_ = false;
};

}  // namespace imgconv::qcow2
