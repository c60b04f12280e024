// Judges the states that a CrashLog makes of a qcow2 image: nothing worse than leaks, and no guest
// sector other than the history allows. Every state is checked by our check, some by the genuine
// one. For the test of an operation on an existing image:
//
//   Qcow2Disk disk;  ... make the image ...
//   Qcow2CrashTest test(disk);            // From here on changes are recorded.
//   disk.open(true);
//   test.write(offset, bytes);  test.flush();  ... or any operation of disk.image ...
//   disk.close();
//   test.judge(seed);                     // REQUIREs that every state is sound.
#pragma once

#include <catch2/catch.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/formats/qcow2_disk.h"
#include "tests/support/crash_log.h"
#include "tests/support/guest_history.h"
#include "tests/support/qemu_img.h"
#include "tests/support/temp_dir.h"

namespace imgconv::test {

class Qcow2CrashTest {
 public:
  /// Requires: the image is closed. Its guest reads as `disk` reads now.
  explicit Qcow2CrashTest(Qcow2Disk& disk)
      : disk_(disk), history_(read_all(disk)), log_(disk.storage) {}

  void write(uint64_t guest_offset, std::span<const std::byte> bytes) {
    history_.write(log_.now(), guest_offset, bytes);
    disk_.write(guest_offset, bytes);
  }
  void write_zeroes(uint64_t guest_offset, uint64_t length, bool may_unmap) {
    history_.write(log_.now(), guest_offset, std::vector<std::byte>(length));
    REQUIRE_THAT(run_inline(disk_.image->write_zeroes(guest_offset, length, may_unmap)), IsOk());
  }
  void write_compressed(uint64_t guest_offset, std::span<const std::byte> cluster) {
    history_.write(log_.now(), guest_offset, cluster);
    disk_.write_compressed(guest_offset, cluster);
  }
  void flush() {
    REQUIRE_THAT(run_inline(disk_.image->flush(true)), IsOk());
    history_.flushed(log_.now());
  }
  CrashLog& log() { return log_; }
  GuestHistory& history() { return history_; }

  /// Requires: the image is closed.
  void judge(uint32_t seed, unsigned random_subsets = 12) {
    uint64_t states = 0;
    std::optional<std::string> failure;
    log_.for_each_state(seed, random_subsets, [&](const CrashState& state) {
      if (failure) return;
      // Genuine checks are processes, so only some.
      const bool is_for_genuine = states++ % 97 == 0;
      failure = damage_of(state);
      if (!failure && is_for_genuine) failure = genuine_verdict(state);
      if (failure) failure = state.description + "\n" + *failure;
    });
    INFO("seed " << seed << ", " << states << " states");
    INFO(failure.value_or(""));
    REQUIRE_FALSE(failure.has_value());
    REQUIRE(states > 0);
  }

 private:
  static std::vector<std::byte> read_all(Qcow2Disk& disk) {
    disk.open(false);
    std::vector<std::byte> bytes = disk.read(0, disk.size());
    disk.image.reset();
    return bytes;
  }

  std::optional<std::string> damage_of(const CrashState& state) const {
    Qcow2Disk crashed;
    for (const auto& [name, bytes] : state.files) crashed.storage.add(name, bytes);
    const Result<void> opened = crashed.try_open(false);
    if (!opened) return "cannot be opened: " + opened.error().text();
    std::string lines;
    const Result<CheckReport> report = run_inline(
        crashed.image->check([&lines](const std::string& line) { lines += line + "\n"; }));
    if (!report) return "cannot be checked: " + report.error().text();
    if (report->corruptions + report->check_errors != 0) return lines;
    std::optional<std::vector<std::byte>> guest = crashed.try_read(0, crashed.size());
    if (!guest) return "cannot be read";
    return history_.mismatch(state.time, *guest);
  }

  static std::optional<std::string> genuine_verdict(const CrashState& state) {
    if (!qemu_img_path()) return std::nullopt;
    const TempDir dir;
    // Opened with the image, but not looked at.
    write_file(dir.file("base.raw"), std::vector<std::byte>(512));
    for (const auto& [name, bytes] : state.files) write_file(dir.file(name), bytes);
    const CommandResult check = qemu_img({"check", Qcow2Disk::kName}, dir.path());
    // 3: leaks, and nothing else.
    if (check.exit_status == 0 || check.exit_status == 3) return std::nullopt;
    return "qemu-img: " + check.out + check.err;
  }

  Qcow2Disk& disk_;
  GuestHistory history_;
  CrashLog log_;
};

}  // namespace imgconv::test
