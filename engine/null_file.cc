#include "engine/null_file.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace imgconv {
namespace {

class BlockingNull final : public BlockingFile {
 public:
  BlockingNull(std::string name, uint64_t length) : name_(std::move(name)), length_(length) {}

  Result<size_t> read(uint64_t host_offset, std::span<std::byte> buffer) override {
    const uint64_t rest = length_ - std::min(host_offset, length_);
    const size_t length = std::min<uint64_t>(buffer.size(), rest);
    std::ranges::fill(buffer.first(length), std::byte{0});
    return length;
  }
  Result<void> write(uint64_t host_offset, std::span<const std::byte> data) override {
    return check_write(host_offset, data.size());
  }
  Result<void> write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags) override {
    return check_write(host_offset, length);
  }
  Result<void> discard(uint64_t, uint64_t) override { return ok(); }
  Result<void> flush() override { return ok(); }
  Result<void> truncate(uint64_t length) override {
    if (length == length_) return ok();
    return Error(ENOTSUP, "Image format driver does not support resize");
  }
  Result<void> allocate(uint64_t host_offset, uint64_t length) override {
    return check_write(host_offset, length);
  }
  Result<FileExtent> block_status(uint64_t host_offset, uint64_t length) override {
    return FileExtent{host_offset, length, /*is_data=*/false};
  }
  Result<FileStat> stat() override {
    FileStat stat;
    stat.length = length_;
    stat.is_block_device = true;
    stat.extends_with_zeros = false;
    stat.ignores_flush = true;
    return stat;
  }
  int descriptor() const override { return -1; }
  const std::string& name() const override { return name_; }

 private:
  Result<void> check_write(uint64_t host_offset, uint64_t length) const {
    const uint64_t rest = length_ - std::min(host_offset, length_);
    if (length <= rest) return ok();
    return Error::from_errno(ENOSPC);
  }

  const std::string name_;
  const uint64_t length_;
};

class NullFile final : public File {
 public:
  NullFile(std::string name, uint64_t length) : blocking_(std::move(name), length) {}

  Task<Result<size_t>> read(uint64_t host_offset, std::span<std::byte> buffer) override {
    co_return blocking_.read(host_offset, buffer);
  }
  Task<Result<void>> write(uint64_t host_offset, std::span<const std::byte> data) override {
    co_return blocking_.write(host_offset, data);
  }
  Task<Result<void>> write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) override {
    co_return blocking_.write_zeroes(host_offset, length, flags);
  }
  Task<Result<void>> discard(uint64_t host_offset, uint64_t length) override {
    co_return blocking_.discard(host_offset, length);
  }
  Task<Result<void>> flush() override { co_return ok(); }
  Task<Result<void>> truncate(uint64_t length) override { co_return blocking_.truncate(length); }
  Task<Result<void>> allocate(uint64_t host_offset, uint64_t length) override {
    co_return blocking_.allocate(host_offset, length);
  }
  Task<Result<FileExtent>> block_status(uint64_t host_offset, uint64_t length) override {
    co_return blocking_.block_status(host_offset, length);
  }
  Result<FileStat> stat() override { return blocking_.stat(); }
  const std::string& name() const override { return blocking_.name(); }
  BlockingFile& blocking() override { return blocking_; }
  bool prefers_async() const override { return false; }

 private:
  BlockingNull blocking_;
};

}  // namespace

std::unique_ptr<File> make_null_file(std::string name, uint64_t length) {
  return std::make_unique<NullFile>(std::move(name), length);
}

}  // namespace imgconv
