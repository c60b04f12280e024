// Random writes of every kind against a plain array: after each burst the image must read as the
// array does, and `check` must find nothing, ours and the genuine one.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <random>

#include "tests/formats/qcow2_disk.h"
#include "tests/support/qemu_img.h"
#include "tests/support/temp_dir.h"

namespace imgconv::test {

namespace {

class RandomWriter {
 public:
  RandomWriter(Qcow2Disk& disk, uint64_t size, uint64_t cluster_size, uint32_t seed)
      : disk_(disk), cluster_size_(cluster_size), shadow_(size), random_(seed) {}

  std::vector<std::byte>& shadow() { return shadow_; }

  void step() {
    switch (pick(6)) {
      case 0:
        return write_zeroes();
      case 1:
        return write_compressed();
      case 2:
        return write_two_at_once();
      default:
        return write_one();
    }
  }

 private:
  struct Range {
    uint64_t offset = 0;
    uint64_t length = 0;
  };
  uint64_t pick(uint64_t below) {
    return std::uniform_int_distribution<uint64_t>(0, below - 1)(random_);
  }

  /// Sectors; often a few, sometimes several clusters.
  Range range() {
    const uint64_t sectors = shadow_.size() / 512;
    const uint64_t first = pick(sectors);
    const uint64_t longest = pick(2) == 0 ? 16 : 5 * cluster_size_ / 512;
    return {first * 512, 512 * std::min(sectors - first, 1 + pick(longest))};
  }
  std::vector<std::byte> content(Range range) {
    ++generation_;
    std::vector<std::byte> bytes = pattern(range.offset, range.length, generation_);
    std::copy(bytes.begin(), bytes.end(), shadow_.begin() + static_cast<ptrdiff_t>(range.offset));
    return bytes;
  }

  void write_one() {
    const Range target = range();
    disk_.write(target.offset, content(target));
  }

  void write_zeroes() {
    Range target = range();
    const uint64_t until_end = shadow_.size() - target.offset;
    if (pick(8) == 0) target.length = until_end;
    std::fill_n(shadow_.begin() + static_cast<ptrdiff_t>(target.offset), target.length,
                std::byte{0});
    REQUIRE_THAT(run_inline(disk_.image->write_zeroes(target.offset, target.length, pick(2) == 0)),
                 IsOk());
  }

  void write_compressed() {
    if (!disk_.image->compression()) return;
    const uint64_t offset = pick(shadow_.size() / cluster_size_) * cluster_size_;
    const Range target{offset, cluster_size_};
    // Repeats, so that it shrinks.
    std::vector<std::byte> bytes(cluster_size_, static_cast<std::byte>(pick(256)));
    fill_pattern(std::span(bytes).first(pick(cluster_size_ / 4)), offset, 1);
    if (!disk_.write_compressed(offset, bytes)) return;
    std::copy(bytes.begin(), bytes.end(), shadow_.begin() + static_cast<ptrdiff_t>(target.offset));
  }

  /// Two neighbours reserve before either writes; they often share a cluster.
  void write_two_at_once() {
    const Range both = range();
    if (both.length < 1024) return;
    const uint64_t first_length = 512 * (1 + pick(both.length / 512 - 1));
    const Range first{both.offset, first_length};
    const Range second{both.offset + first_length, both.length - first_length};
    Result<std::vector<HostRun>> first_runs =
        run_inline(disk_.image->reserve(first.offset, first.length));
    REQUIRE_THAT(first_runs, IsOk());
    const std::vector<std::byte> first_bytes = content(first);
    const bool is_early = pick(2) == 0;
    if (is_early) REQUIRE_THAT(Qcow2Disk::write_runs(*first_runs, first_bytes), IsOk());
    Result<std::vector<HostRun>> second_runs =
        run_inline(disk_.image->reserve(second.offset, second.length));
    REQUIRE_THAT(second_runs, IsOk());
    REQUIRE_THAT(Qcow2Disk::write_runs(*second_runs, content(second)), IsOk());
    REQUIRE_THAT(run_inline(disk_.image->link(second.offset, second.length)), IsOk());
    if (!is_early) REQUIRE_THAT(Qcow2Disk::write_runs(*first_runs, first_bytes), IsOk());
    REQUIRE_THAT(run_inline(disk_.image->link(first.offset, first.length)), IsOk());
  }

  Qcow2Disk& disk_;
  const uint64_t cluster_size_;
  std::vector<std::byte> shadow_;
  std::mt19937 random_;
  uint16_t generation_ = 1;
};

void judge_with_qemu_img(Qcow2Disk& disk, const std::vector<std::byte>& shadow) {
  if (!qemu_img_path()) return;
  const TempDir dir;
  write_file(dir.file("disk.qcow2"), disk.storage.bytes(Qcow2Disk::kName));
  if (disk.storage.exists("data.raw"))
    write_file(dir.file("data.raw"), disk.storage.bytes("data.raw"));
  std::vector<std::byte> backing(shadow.size());
  fill_pattern(backing, 0, Qcow2Disk::kBackingSeed);
  write_file(dir.file("base.raw"), backing);
  write_file(dir.file("want.raw"), shadow);
  const CommandResult check = qemu_img({"check", "disk.qcow2"}, dir.path());
  INFO(check.out << check.err);
  CHECK(check.exit_status == 0);
  const CommandResult compare = qemu_img({"compare", "disk.qcow2", "want.raw"}, dir.path());
  INFO(compare.out << compare.err);
  CHECK(compare.exit_status == 0);
}

uint32_t seed() {
  const char* const given = std::getenv("IMGCONV_SEED");
  return given != nullptr ? static_cast<uint32_t>(std::strtoul(given, nullptr, 10)) : 20261;
}

}  // namespace

TEST_CASE("Qcow2Image: any sequence of writes reads back and checks clean",
          "[formats][qcow2][random]") {
  const char* const options = GENERATE(
      "cluster_size=512", "cluster_size=512,refcount_bits=64", "cluster_size=4k,refcount_bits=1",
      "cluster_size=4k,refcount_bits=2", "cluster_size=16k,extended_l2=on",
      "cluster_size=64k,extended_l2=on,compression_type=zstd", "cluster_size=64k,refcount_bits=8",
      "cluster_size=64k,refcount_bits=4,compression_type=zstd",
      "cluster_size=128k,refcount_bits=32", "compat=0.10,cluster_size=4k",
      "cluster_size=4k,backing_file=base.raw,backing_fmt=raw",
      "compat=0.10,cluster_size=4k,backing_file=base.raw,backing_fmt=raw",
      "cluster_size=16k,extended_l2=on,backing_file=base.raw,backing_fmt=raw",
      "cluster_size=4k,data_file=data.raw", "cluster_size=16k,extended_l2=on,data_file=data.raw");
  const uint32_t used_seed = seed();
  INFO("options " << options << ", IMGCONV_SEED=" << used_seed);
  Qcow2Disk disk;
  const uint64_t size = 2 * kMiB + 3 * 512;
  disk.create(size, options);
  disk.open(true);
  RandomWriter writer(disk, size, *disk.image->info().cluster_size, used_seed);
  if (!disk.image->info().backing_file.empty()) {
    fill_pattern(writer.shadow(), 0, Qcow2Disk::kBackingSeed);
  }
  for (int burst = 0; burst < 6; ++burst) {
    for (int i = 0; i < 25; ++i) writer.step();
    REQUIRE(disk.read(0, size) == writer.shadow());
    if (burst % 2 == 0) REQUIRE_THAT(run_inline(disk.image->flush(burst == 0)), IsOk());
    if (burst % 3 == 2) {
      disk.close();
      disk.open(true);
    }
    CHECK(disk.check() == std::vector<std::string>());
  }
  disk.close();
  disk.open(false);
  CHECK(disk.check() == std::vector<std::string>());
  REQUIRE(disk.read(0, size) == writer.shadow());
  judge_with_qemu_img(disk, writer.shadow());
}

}  // namespace imgconv::test
