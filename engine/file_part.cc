#include "engine/file_part.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "loop/try.h"

namespace imgconv {
namespace {

/// Where in the file the part's bytes are.
class PartBounds {
 public:
  explicit PartBounds(const RawWindow& window) : window_(window) {}

  uint64_t in_file(uint64_t host_offset) const { return window_.host_offset + host_offset; }
  /// How much of a range that begins inside the part, or at its end, is in it.
  uint64_t clamp(uint64_t host_offset, uint64_t length) const {
    if (!window_.is_fixed) return length;
    return std::min(length, window_.length - std::min(host_offset, window_.length));
  }
  Result<void> check_write(uint64_t host_offset, uint64_t length) const {
    if (clamp(host_offset, length) == length) return ok();
    return Error::from_errno(ENOSPC);
  }
  Result<void> check_resize() const {
    if (!window_.is_fixed) return ok();
    return Error(ENOTSUP, "Cannot resize fixed-size raw disks");
  }
  FileExtent seen_from_inside(FileExtent extent) const {
    extent.host_offset -= window_.host_offset;
    return extent;
  }
  FileStat seen_from_inside(FileStat stat) const {
    stat.length -= std::min(stat.length, window_.host_offset);
    if (!window_.is_fixed) return stat;
    // It has the size it has, and what was never written holds what happens to be there.
    stat.length = window_.length;
    stat.is_block_device = true;
    stat.extends_with_zeros = false;
    return stat;
  }

 private:
  const RawWindow window_;
};

class BlockingPart final : public BlockingFile {
 public:
  BlockingPart(BlockingFile& file, const PartBounds& bounds) : file_(file), bounds_(bounds) {}

  Result<size_t> read(uint64_t host_offset, std::span<std::byte> buffer) override {
    return file_.read(bounds_.in_file(host_offset),
                      buffer.first(bounds_.clamp(host_offset, buffer.size())));
  }
  bool read_if_cached(uint64_t host_offset, std::span<std::byte> buffer) override {
    return bounds_.clamp(host_offset, buffer.size()) == buffer.size() &&
           file_.read_if_cached(bounds_.in_file(host_offset), buffer);
  }
  Result<void> write(uint64_t host_offset, std::span<const std::byte> data) override {
    RETURN_IF_ERROR(bounds_.check_write(host_offset, data.size()));
    return file_.write(bounds_.in_file(host_offset), data);
  }
  Result<void> write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) override {
    RETURN_IF_ERROR(bounds_.check_write(host_offset, length));
    return file_.write_zeroes(bounds_.in_file(host_offset), length, flags);
  }
  Result<void> discard(uint64_t host_offset, uint64_t length) override {
    return file_.discard(bounds_.in_file(host_offset), bounds_.clamp(host_offset, length));
  }
  Result<void> flush() override { return file_.flush(); }
  Result<void> truncate(uint64_t length) override {
    RETURN_IF_ERROR(bounds_.check_resize());
    return file_.truncate(bounds_.in_file(length));
  }
  Result<void> allocate(uint64_t host_offset, uint64_t length) override {
    RETURN_IF_ERROR(bounds_.check_write(host_offset, length));
    return file_.allocate(bounds_.in_file(host_offset), length);
  }
  Result<FileExtent> block_status(uint64_t host_offset, uint64_t length) override {
    if (bounds_.clamp(host_offset, length) == 0) return FileExtent{host_offset, length, false};
    ASSIGN_OR_RETURN(
        const FileExtent extent,
        file_.block_status(bounds_.in_file(host_offset), bounds_.clamp(host_offset, length)));
    return bounds_.seen_from_inside(extent);
  }
  Result<FileStat> stat() override {
    ASSIGN_OR_RETURN(const FileStat stat, file_.stat());
    return bounds_.seen_from_inside(stat);
  }
  /// Offsets in it would be others.
  int descriptor() const override { return -1; }
  const std::string& name() const override { return file_.name(); }

 private:
  BlockingFile& file_;
  const PartBounds& bounds_;
};

class FilePart final : public File {
 public:
  FilePart(std::unique_ptr<File> file, const RawWindow& window)
      : file_(std::move(file)), bounds_(window), blocking_(file_->blocking(), bounds_) {}

  Task<Result<size_t>> read(uint64_t host_offset, std::span<std::byte> buffer) override {
    return file_->read(bounds_.in_file(host_offset),
                       buffer.first(bounds_.clamp(host_offset, buffer.size())));
  }
  Task<Result<void>> write(uint64_t host_offset, std::span<const std::byte> data) override {
    CO_RETURN_IF_ERROR(bounds_.check_write(host_offset, data.size()));
    co_return co_await file_->write(bounds_.in_file(host_offset), data);
  }
  Task<Result<void>> write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) override {
    CO_RETURN_IF_ERROR(bounds_.check_write(host_offset, length));
    co_return co_await file_->write_zeroes(bounds_.in_file(host_offset), length, flags);
  }
  Task<Result<void>> discard(uint64_t host_offset, uint64_t length) override {
    return file_->discard(bounds_.in_file(host_offset), bounds_.clamp(host_offset, length));
  }
  Task<Result<void>> flush() override { return file_->flush(); }
  Task<Result<void>> truncate(uint64_t length) override {
    CO_RETURN_IF_ERROR(bounds_.check_resize());
    co_return co_await file_->truncate(bounds_.in_file(length));
  }
  Task<Result<void>> allocate(uint64_t host_offset, uint64_t length) override {
    CO_RETURN_IF_ERROR(bounds_.check_write(host_offset, length));
    co_return co_await file_->allocate(bounds_.in_file(host_offset), length);
  }
  Task<Result<FileExtent>> block_status(uint64_t host_offset, uint64_t length) override {
    if (bounds_.clamp(host_offset, length) == 0) co_return FileExtent{host_offset, length, false};
    CO_ASSIGN_OR_RETURN(const FileExtent extent,
                        co_await file_->block_status(bounds_.in_file(host_offset),
                                                     bounds_.clamp(host_offset, length)));
    co_return bounds_.seen_from_inside(extent);
  }
  Result<FileStat> stat() override { return blocking_.stat(); }
  const std::string& name() const override { return file_->name(); }
  BlockingFile& blocking() override { return blocking_; }
  bool prefers_async() const override { return file_->prefers_async(); }

 private:
  const std::unique_ptr<File> file_;
  const PartBounds bounds_;
  BlockingPart blocking_;
};

}  // namespace

std::unique_ptr<File> part_of_file(std::unique_ptr<File> file, const RawWindow& window) {
  return std::make_unique<FilePart>(std::move(file), window);
}

}  // namespace imgconv
