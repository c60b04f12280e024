// check -r and the directory of bitmaps: what cannot be right is removed, the rest stays, and a
// crash meanwhile leaves nothing worse.
#include <catch2/catch.hpp>

#include "tests/formats/qcow2_disk.h"
#include "tests/support/crash_log.h"
#include "tests/support/qcow2_bitmaps.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::test {
namespace {

constexpr uint64_t kOutside = uint64_t{1} << 45;

BitmapSpec sound(const std::string& name) {
  return {name, kBitmapAuto, 16, {{std::vector<std::byte>(1, std::byte{3}), 0}}};
}

BitmapSpec with_entry(const std::string& name, uint64_t entry) {
  return {name, 0, 16, {{{}, entry}}};
}

class BitmapRepair {
 public:
  explicit BitmapRepair(const std::vector<BitmapSpec>& bitmaps) {
    Qcow2Builder builder;
    builder.size(kMiB).data(0, pattern(0, 64 * kKiB));
    add_bitmaps(builder, bitmaps);
    disk.storage.add(Qcow2Disk::kName, builder.bytes());
  }

  static Result<CheckReport> repair(Qcow2Disk& disk) {
    OpenImageOptions options;
    options.writable = true;
    options.for_check = true;
    options.executor = &disk.storage.executor();
    auto image = run_inline(qcow2_driver().open(disk.storage.file(Qcow2Disk::kName), options));
    REQUIRE_THAT(image, IsOk());
    return run_inline((*image)->repair(RepairMode::kAll, [](const std::string&) {}));
  }
  std::vector<std::string> names() {
    std::vector<std::string> found;
    const auto bitmaps = read_bitmaps(disk.storage.bytes(Qcow2Disk::kName));
    for (const StoredBitmap& bitmap : bitmaps.value_or(std::vector<StoredBitmap>())) {
      found.push_back(bitmap.name);
    }
    return found;
  }

  Qcow2Disk disk;
};

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("repair: a bitmap with a damaged table is removed, others stay", "[formats][qcow2]") {
  const uint64_t entry = GENERATE(uint64_t{2}, uint64_t{513}, uint64_t{1} << 56, kOutside);
  CAPTURE(entry);
  BitmapRepair test({sound("first"), with_entry("bad", entry), sound("last")});
  const Result<CheckReport> report = BitmapRepair::repair(test.disk);
  REQUIRE_THAT(report, IsOk());
  CHECK(report->corruptions_fixed == 1);
  CHECK(report->corruptions + report->check_errors + report->leaks == 0);
  CHECK(test.names() == Names{"first", "last"});
  test.disk.open(false);
  CHECK(test.disk.check().empty());
}

TEST_CASE("repair: the last bitmap that is removed takes the extension along", "[formats][qcow2]") {
  BitmapRepair test({with_entry("bad", 2)});
  REQUIRE_THAT(BitmapRepair::repair(test.disk), IsOk());
  CHECK(test.names().empty());
  test.disk.open(true);
  CHECK(test.disk.image->bitmaps()->list().empty());
  test.disk.close();
  test.disk.open(false);
  CHECK(test.disk.check().empty());
}

TEST_CASE("repair: bitmaps that are sound, or only in use, are left alone", "[formats][qcow2]") {
  BitmapSpec in_use = sound("in use");
  in_use.flags = kBitmapInUse;
  BitmapRepair test({sound("first"), in_use, with_entry("ones", 1)});
  const std::vector<std::byte> before = test.disk.storage.bytes(Qcow2Disk::kName);
  const Result<CheckReport> report = BitmapRepair::repair(test.disk);
  REQUIRE_THAT(report, IsOk());
  CHECK(report->corruptions_fixed == 0);
  CHECK((test.disk.storage.bytes(Qcow2Disk::kName) == before));
}

TEST_CASE("repair: a crash while bitmaps are removed leaves all, the sound ones, or none",
          "[formats][qcow2][crash]") {
  BitmapRepair test({sound("first"), with_entry("bad", 2), sound("last")});
  CrashLog log(test.disk.storage);
  log.start();
  REQUIRE_THAT(BitmapRepair::repair(test.disk), IsOk());
  uint64_t states = 0;
  log.for_each_state(11, 12, [&](const CrashState& state) {
    INFO(state.description);
    ++states;
    BitmapRepair crashed({});
    for (const auto& [name, bytes] : state.files) crashed.disk.storage.add(name, bytes);
    const Names names = crashed.names();
    const bool is_old_or_new =
        names == Names{"first", "bad", "last"} || names == Names{"first", "last"} || names.empty();
    REQUIRE(is_old_or_new);
    REQUIRE_THAT(crashed.disk.try_open(false), IsOk());
    crashed.disk.image.reset();
    const Result<CheckReport> again = BitmapRepair::repair(crashed.disk);
    REQUIRE_THAT(again, IsOk());
    REQUIRE(again->corruptions + again->check_errors + again->leaks == 0);
  });
  CHECK(states > 4);
}

}  // namespace imgconv::test
