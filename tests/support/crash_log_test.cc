// CrashLog and GuestHistory: which states a crash can leave, and which of them a disk may show.
#include "tests/support/crash_log.h"

#include <catch2/catch.hpp>
#include <memory>
#include <set>

#include "tests/support/guest_history.h"
#include "tests/support/matchers.h"
#include "tests/support/pattern.h"

namespace imgconv::test {
namespace {

std::vector<std::byte> sector(int value) {
  return std::vector<std::byte>(512, static_cast<std::byte>(value));
}

/// First byte of each sector of the file, over all states.
std::set<std::string> states_of(const CrashLog& log, const std::string& name) {
  std::set<std::string> states;
  log.for_each_state(1, 64, [&](const CrashState& state) {
    std::string text;
    const std::vector<std::byte>& bytes = state.files.at(name);
    for (size_t at = 0; at < bytes.size(); at += 512) text += static_cast<char>(bytes[at]);
    states.insert(text);
  });
  return states;
}

void write(File& file, uint64_t offset, const std::vector<std::byte>& bytes) {
  REQUIRE_THAT(run_inline(file.write(offset, bytes)), IsOk());
}

}  // namespace

TEST_CASE("CrashLog: unflushed writes reach the medium in any combination", "[support]") {
  MemStorage storage;
  storage.add("a", to_bytes(std::string(512, '.') + std::string(512, '.')));
  CrashLog log(storage);
  const std::unique_ptr<File> file = storage.file("a");
  write(*file, 0, sector('x'));
  write(*file, 512, sector('y'));
  CHECK(states_of(log, "a") == std::set<std::string>{"..", "x.", ".y", "xy"});
}

TEST_CASE("CrashLog: what a flush covers is there before what comes later", "[support]") {
  MemStorage storage;
  storage.add("a", to_bytes(std::string(1024, '.')));
  CrashLog log(storage);
  const std::unique_ptr<File> file = storage.file("a");
  write(*file, 0, sector('x'));
  REQUIRE_THAT(run_inline(file->flush()), IsOk());
  write(*file, 512, sector('y'));
  CHECK(states_of(log, "a") == std::set<std::string>{"..", "x.", "xy"});
}

TEST_CASE("CrashLog: a flush of one file says nothing of another", "[support]") {
  MemStorage storage;
  storage.add("a", to_bytes(std::string(512, '.')));
  storage.add("b", to_bytes(std::string(512, '.')));
  CrashLog log(storage);
  const std::unique_ptr<File> a = storage.file("a");
  const std::unique_ptr<File> b = storage.file("b");
  write(*a, 0, sector('x'));
  REQUIRE_THAT(run_inline(b->flush()), IsOk());
  write(*b, 0, sector('y'));
  bool only_b = false;
  log.for_each_state(1, 0, [&](const CrashState& state) {
    const bool has_a = state.files.at("a")[0] == std::byte{'x'};
    const bool has_b = state.files.at("b")[0] == std::byte{'y'};
    if (has_b && !has_a) only_b = true;
  });
  CHECK(only_b);
}

TEST_CASE("CrashLog: a long write is torn between sectors", "[support]") {
  MemStorage storage;
  storage.add("a", to_bytes(std::string(1024, '.')));
  CrashLog log(storage);
  const std::unique_ptr<File> file = storage.file("a");
  std::vector<std::byte> both = sector('x');
  both.resize(1024, std::byte{'x'});
  write(*file, 0, both);
  REQUIRE_THAT(run_inline(file->write_zeroes(0, 1024, {})), IsOk());
  CHECK(states_of(log, "a").contains("x."));
}

TEST_CASE("CrashLog: truncation is a change like others", "[support]") {
  MemStorage storage;
  storage.add("a", to_bytes("...."));
  CrashLog log(storage);
  const std::unique_ptr<File> file = storage.file("a");
  REQUIRE_THAT(run_inline(file->truncate(0)), IsOk());
  CHECK(states_of(log, "a") == std::set<std::string>{".", ""});
}

TEST_CASE("GuestHistory: a sector may hold what was flushed or what was written since",
          "[support]") {
  GuestHistory history(std::vector<std::byte>(1024));
  history.write(0, 0, sector(1));
  history.write(1, 0, sector(2));
  history.flushed(2);
  history.write(2, 0, sector(3));
  const auto disk = [](int first, int second) {
    std::vector<std::byte> bytes = sector(first);
    bytes.resize(1024, static_cast<std::byte>(second));
    return bytes;
  };
  CHECK_FALSE(history.mismatch(3, disk(2, 0)));
  CHECK_FALSE(history.mismatch(3, disk(3, 0)));
  CHECK(history.mismatch(3, disk(1, 0)));
  CHECK(history.mismatch(3, disk(0, 0)));
  CHECK(history.mismatch(3, disk(2, 3)));
  // Before the flush the older states are possible, the newest is not.
  CHECK_FALSE(history.mismatch(1, disk(0, 0)));
  CHECK_FALSE(history.mismatch(1, disk(1, 0)));
  CHECK(history.mismatch(1, disk(2, 0)));
  CHECK(history.mismatch(3, sector(2)));
}

}  // namespace imgconv::test
