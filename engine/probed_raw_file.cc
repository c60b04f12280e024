#include "engine/probed_raw_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "formats/driver.h"
#include "formats/foreign_formats.h"
#include "formats/registry.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// What a format is told by.
using Head = std::array<std::byte, kSectorSize>;

bool touches_head(uint64_t host_offset, std::span<const std::byte> data) {
  return host_offset < kSectorSize && !data.empty();
}

/// `head` is what the file has.
Result<void> check_write(Head& head, uint64_t host_offset, std::span<const std::byte> data) {
  const size_t length = std::min<size_t>(data.size(), head.size() - host_offset);
  std::ranges::copy(data.first(length), head.begin() + static_cast<ptrdiff_t>(host_offset));
  if (probe_driver(head).name() == "raw" && probe_foreign_format(head).empty()) return ok();
  return Error::from_errno(EPERM);
}

class BlockingGuard final : public BlockingFile {
 public:
  explicit BlockingGuard(BlockingFile& file) : file_(file) {}

  Result<size_t> read(uint64_t host_offset, std::span<std::byte> buffer) override {
    return file_.read(host_offset, buffer);
  }
  Result<void> write(uint64_t host_offset, std::span<const std::byte> data) override {
    if (touches_head(host_offset, data)) {
      Head head{};
      RETURN_IF_ERROR(file_.read(0, head));
      RETURN_IF_ERROR(check_write(head, host_offset, data));
    }
    return file_.write(host_offset, data);
  }
  Result<void> write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) override {
    return file_.write_zeroes(host_offset, length, flags);
  }
  Result<void> discard(uint64_t host_offset, uint64_t length) override {
    return file_.discard(host_offset, length);
  }
  Result<void> flush() override { return file_.flush(); }
  Result<void> truncate(uint64_t length) override { return file_.truncate(length); }
  Result<void> allocate(uint64_t host_offset, uint64_t length) override {
    return file_.allocate(host_offset, length);
  }
  Result<FileExtent> block_status(uint64_t host_offset, uint64_t length) override {
    return file_.block_status(host_offset, length);
  }
  Result<FileStat> stat() override { return file_.stat(); }
  /// Nobody may write past the guard.
  int descriptor() const override { return -1; }
  const std::string& name() const override { return file_.name(); }

 private:
  BlockingFile& file_;
};

class ProbedRawFile final : public File {
 public:
  explicit ProbedRawFile(std::unique_ptr<File> file)
      : file_(std::move(file)), blocking_(file_->blocking()) {}

  Task<Result<size_t>> read(uint64_t host_offset, std::span<std::byte> buffer) override {
    return file_->read(host_offset, buffer);
  }
  Task<Result<void>> write(uint64_t host_offset, std::span<const std::byte> data) override {
    if (touches_head(host_offset, data)) {
      Head head{};
      CO_RETURN_IF_ERROR(co_await file_->read(0, head));
      CO_RETURN_IF_ERROR(check_write(head, host_offset, data));
    }
    CO_RETURN_IF_ERROR(co_await file_->write(host_offset, data));
    co_return ok();
  }
  Task<Result<void>> write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) override {
    return file_->write_zeroes(host_offset, length, flags);
  }
  Task<Result<void>> discard(uint64_t host_offset, uint64_t length) override {
    return file_->discard(host_offset, length);
  }
  Task<Result<void>> flush() override { return file_->flush(); }
  Task<Result<void>> truncate(uint64_t length) override { return file_->truncate(length); }
  Task<Result<void>> allocate(uint64_t host_offset, uint64_t length) override {
    return file_->allocate(host_offset, length);
  }
  Task<Result<FileExtent>> block_status(uint64_t host_offset, uint64_t length) override {
    return file_->block_status(host_offset, length);
  }
  Result<FileStat> stat() override { return file_->stat(); }
  const std::string& name() const override { return file_->name(); }
  BlockingFile& blocking() override { return blocking_; }
  bool prefers_async() const override { return file_->prefers_async(); }

 private:
  std::unique_ptr<File> file_;
  BlockingGuard blocking_;
};

}  // namespace

std::unique_ptr<File> guard_probed_raw(std::unique_ptr<File> file) {
  return std::make_unique<ProbedRawFile>(std::move(file));
}

}  // namespace imgconv
