#include "engine/convert_checks.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "engine/content_hash.h"
#include "loop/units.h"
#include "tests/support/convert_fixture.h"

namespace imgconv {
namespace {

using namespace imgconv::test;

/// Says that it wrote what reaches over `lost_offset`, and did not.
class ForgetfulFile final : public BlockingFile {
 public:
  ForgetfulFile(std::unique_ptr<BlockingFile> inner, uint64_t lost_offset)
      : inner_(std::move(inner)), lost_offset_(lost_offset) {}

  Result<void> write(uint64_t host_offset, std::span<const std::byte> data) override {
    if (host_offset <= lost_offset_ && lost_offset_ < host_offset + data.size()) return ok();
    return inner_->write(host_offset, data);
  }
  Result<size_t> read(uint64_t host_offset, std::span<std::byte> buffer) override {
    return inner_->read(host_offset, buffer);
  }
  Result<void> write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) override {
    return inner_->write_zeroes(host_offset, length, flags);
  }
  Result<void> discard(uint64_t host_offset, uint64_t length) override {
    return inner_->discard(host_offset, length);
  }
  Result<void> flush() override { return inner_->flush(); }
  Result<void> truncate(uint64_t length) override { return inner_->truncate(length); }
  Result<void> allocate(uint64_t host_offset, uint64_t length) override {
    return inner_->allocate(host_offset, length);
  }
  Result<FileExtent> block_status(uint64_t host_offset, uint64_t length) override {
    return inner_->block_status(host_offset, length);
  }
  Result<FileStat> stat() override { return inner_->stat(); }
  int descriptor() const override { return -1; }
  const std::string& name() const override { return inner_->name(); }

 private:
  const std::unique_ptr<BlockingFile> inner_;
  const uint64_t lost_offset_;
};

std::vector<std::byte> hash_of(const Bytes& disk, size_t piece, bool skips_zeros) {
  Result<ContentHash> hash = ContentHash::make();
  REQUIRE_THAT(hash, IsOk());
  for (size_t at = 0; at < disk.size(); at += piece) {
    const auto bytes = std::span(disk).subspan(at, std::min(piece, disk.size() - at));
    const bool is_zero = std::all_of(bytes.begin(), bytes.end(),
                                     [](std::byte byte) { return byte == std::byte{0}; });
    if (!is_zero || !skips_zeros) hash->add(at, bytes);
  }
  return hash->finish();
}

TEST_CASE("ContentHash: pieces and left out zeros make no difference, bytes and places do",
          "[engine]") {
  Bytes disk = random_disk(5, 2000);
  const auto whole = hash_of(disk, disk.size(), false);
  for (const size_t piece : {512, 1024, 65536}) {
    REQUIRE(hash_of(disk, piece, false) == whole);
    REQUIRE(hash_of(disk, piece, true) == whole);
  }
  Bytes moved(disk.size() + 512);
  std::copy(disk.begin(), disk.end(), moved.begin() + 512);
  REQUIRE(hash_of(moved, 512, true) != whole);
  disk[1234567 % disk.size()] ^= std::byte{1};
  REQUIRE(hash_of(disk, 512, true) != whole);
}

TEST_CASE("Convert: --verify finds a write that never happened, in every format", "[engine]") {
  for (const std::string format : {"raw", "qcow2"}) {
    MemStorage storage;
    const Bytes disk = pattern(0, 3 * kMiB);
    storage.add("source", disk);
    ConvertOptions options = options_for("source", "out", format);
    options.source_format = "raw";
    options.verify = true;
    REQUIRE_THAT(run_convert(storage, options), IsOk());
    storage.set_wrapper([](std::unique_ptr<BlockingFile> inner) -> std::unique_ptr<BlockingFile> {
      if (inner->name() != "out") return inner;
      return std::make_unique<ForgetfulFile>(std::move(inner), 2 * kMiB + 777);
    });
    const auto result = run_convert(storage, options);
    REQUIRE(!result);
    REQUIRE_THAT(result.error().text(), Catch::StartsWith("out: verification failed at byte "));
    options.verify = false;
    REQUIRE_THAT(run_convert(storage, options), IsOk());
  }
}

TEST_CASE("Convert: digests of the disk are the same in every order of work", "[engine]") {
  // Of the empty string and of 1 MiB of zeros, from sha256sum.
  const std::pair<size_t, const char*> known[] = {
      {0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {kMiB, "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58"}};
  for (const auto& [size, digest] : known) {
    for (const unsigned workers : {1U, 16U}) {
      MemStorage storage;
      storage.add("source", Bytes(size));
      ConvertOptions options = options_for("source", "out", "qcow2");
      options.source_format = "raw";
      options.coroutines = workers;
      options.digests = {{"sha256", false}};
      const auto summary = run_convert(storage, options);
      REQUIRE_THAT(summary, IsOk());
      REQUIRE(summary->digests.at(0).hexadecimal == digest);
      REQUIRE(!summary->digests.at(0).is_of_file);
    }
  }
}

TEST_CASE("Convert: an unknown digest harms nothing", "[engine]") {
  MemStorage storage;
  storage.add("source", Bytes(512));
  storage.add("out", pattern(0, 512));
  ConvertOptions options = options_for("source", "out", "raw");
  options.digests = {{"sha255", false}};
  REQUIRE_THAT(run_convert(storage, options),
               FailsWith(EINVAL, "Unknown digest algorithm 'sha255'"));
  REQUIRE(is_equal(storage.bytes("out"), pattern(0, 512)));
}

}  // namespace
}  // namespace imgconv
