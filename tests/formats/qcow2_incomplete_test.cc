// An image that is being filled in the place of another one: what a run that dies leaves.
#include <catch2/catch.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/formats/qcow2_disk.h"
#include "tests/support/qemu_img.h"
#include "tests/support/temp_dir.h"

namespace imgconv::test {
namespace {

constexpr uint64_t kHalf = kMiB / 2;

Result<std::unique_ptr<Image>> open_incomplete(MemStorage& storage, bool writable) {
  OpenImageOptions options;
  options.writable = writable;
  options.incomplete_size = kMiB;
  options.executor = &storage.executor();
  return run_inline(qcow2_driver().open(storage.file(Qcow2Disk::kName, writable), options));
}

std::unique_ptr<Image> begin_filling(MemStorage& storage, const std::string& options) {
  CreateImageOptions create;
  create.virtual_size = kMiB;
  create.options = *parse_options(qcow2_driver().create_options(), options);
  create.is_incomplete = true;
  const std::unique_ptr<File> file = storage.file(Qcow2Disk::kName);
  REQUIRE_THAT(run_inline(qcow2_driver().create(*file, create)), IsOk());
  auto image = open_incomplete(storage, true);
  REQUIRE_THAT(image, IsOk());
  return std::move(*image);
}

void fill_half(Image& image) {
  const auto runs = run_inline(image.reserve(0, kHalf));
  REQUIRE_THAT(runs, IsOk());
  REQUIRE_THAT(Qcow2Disk::write_runs(*runs, pattern(0, kHalf)), IsOk());
  REQUIRE_THAT(run_inline(image.link(0, kHalf)), IsOk());
  REQUIRE_THAT(run_inline(image.flush(true)), IsOk());
}

/// What the genuine tool makes of it when told to repair all.
std::string info_after_repair(const std::vector<std::byte>& bytes) {
  const TempDir dir;
  write_file(dir.file("x.qcow2"), bytes);
  REQUIRE(qemu_img({"check", "-q", "-r", "all", "x.qcow2"}, dir.path()).exit_status == 0);
  return qemu_img({"info", "x.qcow2"}, dir.path()).out;
}

const char* const kOptions[] = {"cluster_size=4k", "compat=0.10", "extended_l2=on",
                                "preallocation=metadata", "refcount_bits=1,cluster_size=512"};

}  // namespace

TEST_CASE("Incomplete image: until it is complete its disk has no size, repaired or not",
          "[formats][qcow2]") {
  for (const std::string options : kOptions) {
    INFO(options);
    const bool is_v3 = options != "compat=0.10";
    Qcow2Disk disk;
    const std::unique_ptr<Image> image = begin_filling(disk.storage, options);
    CHECK(image->info().virtual_size == kMiB);
    fill_half(*image);
    // The file as it is now, which is what a process that dies leaves.
    CHECK(disk.try_open(true).has_value() == !is_v3);
    disk.open(false);
    CHECK(disk.size() == 0);
    if (!qemu_img_path()) continue;
    const std::string info = info_after_repair(disk.storage.bytes(Qcow2Disk::kName));
    CHECK(info.find("virtual size: 0 B") != std::string::npos);
    CHECK(info.find("corrupt: true") == std::string::npos);
  }
}

TEST_CASE("Incomplete image: who knows the size reads what is there so far", "[formats][qcow2]") {
  Qcow2Disk disk;
  const std::unique_ptr<Image> image = begin_filling(disk.storage, "");
  fill_half(*image);
  auto reader = open_incomplete(disk.storage, false);
  REQUIRE_THAT(reader, IsOk());
  disk.image = std::move(*reader);
  CHECK(disk.size() == kMiB);
  CHECK(is_pattern(disk.read(0, kHalf), 0));
}

TEST_CASE("Incomplete image: another header does not make it complete", "[formats][qcow2]") {
  Qcow2Disk disk;
  const std::unique_ptr<Image> image = begin_filling(disk.storage, "");
  fill_half(*image);
  REQUIRE_THAT(run_inline(image->change_backing("base", "raw")), IsOk());
  disk.open(false);
  CHECK(disk.image->info().backing_file == "base");
  CHECK(disk.size() == 0);
}

TEST_CASE("Incomplete image: complete it has its size and its bytes", "[formats][qcow2]") {
  for (const std::string options : kOptions) {
    INFO(options);
    Qcow2Disk disk;
    const std::unique_ptr<Image> image = begin_filling(disk.storage, options);
    fill_half(*image);
    REQUIRE_THAT(run_inline(image->mark_complete()), IsOk());
    REQUIRE_THAT(run_inline(image->close()), IsOk());
    disk.open(true);
    CHECK(disk.size() == kMiB);
    CHECK(is_pattern(disk.read(0, kHalf), 0));
    CHECK(disk.check().empty());
  }
}

}  // namespace imgconv::test
