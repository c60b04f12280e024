// CheckContext: what the steps of one `check` share: the image, the report and the counts, and the
// way they read metadata. Owned by check(); loop thread only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/image.h"
#include "formats/qcow2/check_counts.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/units.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

class CheckContext {
 public:
  CheckContext(File& image_file, const Header& image_header, const CheckSink& line_sink,
               uint64_t length)
      : header(image_header), file_length(length), file_(image_file), sink_(line_sink) {}

  const Header& header;
  /// Whole sectors, as QEMU sees files.
  const uint64_t file_length;
  CheckReport report;
  ReferenceCounts counts;
  /// One more than the highest cluster that is looked at.
  uint64_t cluster_count = 0;

  /// Prints a line that changes no counter.
  void say(const std::string& line) { sink_(line); }
  void corruption(const std::string& line) {
    sink_(line);
    ++report.corruptions;
  }

  /// Counts the clusters of [offset, offset + size). What lies wholly behind the file is a
  /// corruption and is not counted, which bounds the memory.
  void add_references(HostOffset offset, uint64_t size);

  /// Fills `buffer`, with zeros behind the end of the file. Small tables are read together with
  /// their surroundings, since tables of small clusters lie close to each other.
  Task<Result<void>> read(HostOffset offset, std::span<std::byte> buffer);

 private:
  File& file_;
  const CheckSink& sink_;
  std::vector<std::byte> window_;
  uint64_t window_offset_ = 0;
};

}  // namespace imgconv::qcow2
