// RawImage: an open raw image. Made by the raw driver (formats/raw.h) only.
//
// The virtual size is the window rounded up to whole sectors; guest bytes between the end of the
// file and the virtual size are zeros. Loop thread only; owns its file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/image.h"

namespace imgconv {

/// Writes real zeros to [begin, end), and syncs. "Could not write zeros for preallocation", "Could
/// not flush file to disk"; EINTR when a run that cleans up after itself is asked to end.
Task<Result<void>> write_zeros_out(File& file, uint64_t begin, uint64_t end);

/// With its first block allocated a file answers questions about alignment and holes. Requires: the
/// file is `length` > 0 bytes of zeros.
Task<Result<void>> write_first_block(File& file, uint64_t length);

/// The part of a file that is the image, in bytes of the file.
struct RawWindow {
  uint64_t host_offset = 0;
  uint64_t length = 0;
  /// The user said where it ends.
  bool is_fixed = false;
};

/// "The sum of offset (0) and size (1024) has to be smaller or equal to the  actual size ..."
Result<RawWindow> find_window(const FileStat& stat, uint64_t offset, std::optional<uint64_t> size);

class RawImage final : public Image {
 public:
  /// `extends_with_zeros`: what was never written reads as zeros, as in a regular file.
  RawImage(std::unique_ptr<File> file, RawWindow window, bool extends_with_zeros);

  const ImageInfo& info() const override { return info_; }
  File& file() override { return *file_; }
  Task<Result<ExtentList>> map(uint64_t guest_offset, uint64_t length) override;
  Task<Result<void>> load_snapshot(const std::string& id_or_name) override;
  Task<Result<CheckReport>> check(const CheckSink& sink) override;

  Task<Result<std::vector<HostRun>>> reserve(uint64_t guest_offset, uint64_t length) override;
  Task<Result<void>> link(uint64_t guest_offset, uint64_t length) override;
  Task<Result<void>> write_zeroes(uint64_t guest_offset, uint64_t length, bool may_unmap) override;
  std::optional<CompressionInfo> compression() const override { return std::nullopt; }
  Task<Result<HostRun>> reserve_compressed(uint64_t guest_offset, uint64_t payload) override;
  void set_backing_reader(BackingReader reader) override;
  /// A raw file does not tell whether it was written before: true holds for one just created.
  bool reads_as_zeros_initially() const override { return extends_with_zeros_; }
  Task<Result<void>> resize(const ResizeRequest& request) override;
  Task<Result<void>> flush(bool sync) override;
  Task<Result<void>> close() override;

 private:
  const std::unique_ptr<File> file_;
  RawWindow window_;
  const bool extends_with_zeros_;
  ImageInfo info_;
};

}  // namespace imgconv
