// The power fails at every point of a run of writes to an existing image: leaks are the worst.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <random>

#include "tests/formats/qcow2_crash.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::test {

namespace {

constexpr uint64_t kDiskSize = 256 * kKiB;

uint32_t seed() {
  const char* const given = std::getenv("IMGCONV_SEED");
  return given != nullptr ? static_cast<uint32_t>(std::strtoul(given, nullptr, 10)) : 20264;
}

/// Writes of every kind, flushes and reopening between them.
class RandomRun {
 public:
  RandomRun(Qcow2Disk& disk, Qcow2CrashTest& test, uint32_t seed)
      : disk_(disk), test_(test), random_(seed) {}

  void step() {
    switch (pick(8)) {
      case 0:
      case 1:
        return write_zeroes();
      case 2:
        return write_compressed();
      case 3:
        return test_.flush();
      default:
        return write();
    }
  }

 private:
  uint64_t pick(uint64_t below) { return random_() % below; }
  uint64_t cluster_size() { return *disk_.image->info().cluster_size; }

  void write() {
    const auto [offset, length] = range();
    test_.write(offset, pattern(offset, length, ++generation_));
  }
  void write_zeroes() {
    const auto [offset, length] = range();
    test_.write_zeroes(offset, length, pick(3) != 0);
  }
  void write_compressed() {
    if (!disk_.image->compression()) return;
    const uint64_t offset = pick(kDiskSize / cluster_size()) * cluster_size();
    std::vector<std::byte> bytes(cluster_size(), static_cast<std::byte>(pick(255) + 1));
    fill_pattern(std::span(bytes).first(pick(cluster_size() / 4)), offset, ++generation_);
    test_.write_compressed(offset, bytes);
  }
  std::pair<uint64_t, uint64_t> range() {
    const uint64_t sectors = kDiskSize / 512;
    const uint64_t first = pick(sectors);
    const uint64_t longest = pick(2) == 0 ? 8 : 4 * cluster_size() / 512;
    return {first * 512, 512 * std::min(sectors - first, 1 + pick(longest))};
  }

  Qcow2Disk& disk_;
  Qcow2CrashTest& test_;
  std::mt19937 random_;
  uint16_t generation_ = 1;
};

void write_half_of(Qcow2Disk& disk, uint32_t seed) {
  std::mt19937 random(seed);
  for (uint64_t at = 0; at < disk.size(); at += 8 * kKiB) {
    if (random() % 2 == 0) disk.write(at, pattern(at, 8 * kKiB));
  }
}

void run_and_judge(Qcow2Disk& disk) {
  Qcow2CrashTest test(disk);
  disk.open(true);
  RandomRun run(disk, test, seed());
  for (int i = 0; i < 24; ++i) run.step();
  disk.close();
  test.judge(seed());
}

}  // namespace

TEST_CASE("Writer: a crash during any writes to an image leaves nothing worse than leaks",
          "[formats][qcow2][crash]") {
  const char* const options =
      GENERATE("cluster_size=512", "cluster_size=512,refcount_bits=64", "cluster_size=4k",
               "cluster_size=4k,refcount_bits=1", "cluster_size=16k,extended_l2=on",
               "compat=0.10,cluster_size=4k", "cluster_size=4k,lazy_refcounts=on",
               "cluster_size=4k,backing_file=base.raw,backing_fmt=raw",
               "compat=0.10,cluster_size=4k,backing_file=base.raw,backing_fmt=raw",
               "cluster_size=16k,extended_l2=on,backing_file=base.raw,backing_fmt=raw",
               "cluster_size=4k,data_file=data.raw");
  INFO("options " << options);
  Qcow2Disk disk;
  disk.create(kDiskSize, options);
  disk.open(true);
  write_half_of(disk, seed());
  disk.close();
  run_and_judge(disk);
}

TEST_CASE("Writer: a crash while shared clusters are copied leaves nothing worse than leaks",
          "[formats][qcow2][crash]") {
  const uint32_t cluster_bits = GENERATE(9, 12);
  Qcow2Builder builder;
  builder.cluster_bits(cluster_bits).size(kDiskSize);
  for (uint64_t i = 0; i < 24; ++i) {
    builder.data(i * 2, pattern(i * 2 * builder.cluster_size(), builder.cluster_size()));
  }
  builder.zero_alloc(49).compressed(51, std::vector<std::byte>(100, std::byte{7}));
  builder.snapshot({});
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  run_and_judge(disk);
}

TEST_CASE("Writer: a crash while refcount blocks are added leaves nothing worse than leaks",
          "[formats][qcow2][crash]") {
  // A block counts 64 clusters.
  Qcow2Disk disk;
  disk.create(kDiskSize, "cluster_size=512,refcount_bits=64");
  Qcow2CrashTest test(disk);
  disk.open(true);
  for (uint64_t at = 0; at < 240 * kKiB; at += 40 * kKiB) {
    test.write(at, pattern(at, 24 * kKiB));
    test.flush();
  }
  disk.close();
  test.judge(seed());
}

TEST_CASE("Writer: a crash while the refcount table moves leaves nothing worse than leaks",
          "[formats][qcow2][crash]") {
  // 64 table entries of 64 counts each: full after 2 MiB.
  Qcow2Disk disk;
  disk.create(4 * kMiB, "cluster_size=512,refcount_bits=64");
  disk.open(true);
  disk.write(0, pattern(0, 1900 * kKiB));
  disk.close();
  Qcow2CrashTest test(disk);
  disk.open(true);
  for (uint64_t at = 1900 * kKiB; at < 2300 * kKiB; at += 100 * kKiB) {
    test.write(at, pattern(at, 100 * kKiB));
  }
  disk.close();
  test.judge(seed(), 4);
}

TEST_CASE("Writer: space that was given up is reused after a flush and not before",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  disk.write(0, pattern(0, 64 * kKiB));
  const uint64_t first_place = disk.map(0, 1)[0].host_offset;
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(0, 64 * kKiB, true)), IsOk());
  disk.write(64 * kKiB, pattern(0, 64 * kKiB));
  CHECK(disk.map(64 * kKiB, 1)[0].host_offset != first_place);
  REQUIRE_THAT(run_inline(disk.image->flush(false)), IsOk());
  disk.write(128 * kKiB, pattern(0, 64 * kKiB));
  CHECK(disk.map(128 * kKiB, 1)[0].host_offset == first_place);
  disk.close();
}

}  // namespace imgconv::test
