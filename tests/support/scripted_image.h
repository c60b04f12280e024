// ScriptedImage: an Image whose layer is a list of extents, for tests of code that reads maps.
// Reading only: it has no bytes, and writing to it ends the test.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/image.h"

namespace imgconv::test {

/// One extent of the script; they follow each other from guest offset 0 on.
struct ScriptedExtent {
  uint64_t length = 0;
  ExtentKind kind = ExtentKind::kUnallocated;
  /// kData only: reads as zeros all the same.
  bool is_zero = false;
};

class ScriptedImage final : public Image {
 public:
  /// `file` stands for the image's file and is owned.
  ScriptedImage(const std::vector<ScriptedExtent>& script, uint64_t cluster_size,
                std::unique_ptr<File> file)
      : file_(std::move(file)) {
    info_.format = "scripted";
    if (cluster_size != 0) info_.cluster_size = cluster_size;
    for (const ScriptedExtent& scripted : script) {
      Extent extent;
      extent.guest_offset = info_.virtual_size;
      extent.length = scripted.length;
      extent.kind = scripted.kind;
      extent.is_zero = scripted.is_zero;
      extent.has_host_offset = scripted.kind == ExtentKind::kData;
      extent.host_offset = extent.guest_offset;
      extent.file = file_.get();
      extents_.push_back(extent);
      info_.virtual_size += scripted.length;
    }
  }

  /// Extents per answer of map(); a test may want several questions.
  void set_batch(size_t extents) { batch_ = extents; }
  /// map() of a range that touches this byte fails with EIO.
  void set_bad_offset(uint64_t guest_offset) { bad_offset_ = guest_offset; }

  const ImageInfo& info() const override { return info_; }
  File& file() override { return *file_; }
  Task<Result<ExtentList>> map(uint64_t guest_offset, uint64_t length) override {
    const uint64_t end = guest_offset + length;
    if (bad_offset_ && *bad_offset_ >= guest_offset && *bad_offset_ < end) {
      co_return Error::from_errno(EIO);
    }
    ExtentList found;
    for (Extent extent : extents_) {
      if (extent.guest_end() <= guest_offset || extent.guest_offset >= end) continue;
      if (found.size() == batch_) break;
      const uint64_t begin = std::max(extent.guest_offset, guest_offset);
      extent.host_offset += begin - extent.guest_offset;
      extent.length = std::min(extent.guest_end(), end) - begin;
      extent.guest_offset = begin;
      found.push_back(extent);
    }
    co_return found;
  }

  Task<Result<void>> load_snapshot(const std::string&) override { std::abort(); }
  Task<Result<CheckReport>> check(const CheckSink&) override { std::abort(); }
  Task<Result<std::vector<HostRun>>> reserve(uint64_t, uint64_t) override { std::abort(); }
  Task<Result<void>> link(uint64_t, uint64_t) override { std::abort(); }
  Task<Result<void>> write_zeroes(uint64_t, uint64_t, bool) override { std::abort(); }
  std::optional<CompressionInfo> compression() const override { return std::nullopt; }
  Task<Result<HostRun>> reserve_compressed(uint64_t, uint64_t) override { std::abort(); }
  void set_backing_reader(BackingReader) override {}
  bool reads_as_zeros_initially() const override { return false; }
  Task<Result<void>> flush(bool) override { std::abort(); }
  Task<Result<void>> close() override { co_return ok(); }

 private:
  ImageInfo info_;
  std::unique_ptr<File> file_;
  ExtentList extents_;
  size_t batch_ = 1000;
  std::optional<uint64_t> bad_offset_;
};

}  // namespace imgconv::test
