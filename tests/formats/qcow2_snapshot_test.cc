#include "formats/qcow2/snapshot.h"

#include <catch2/catch.hpp>
#include <cerrno>

#include "loop/pool_file.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_file.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::qcow2 {
namespace {

using test::BuilderSnapshot;
using test::FailsSaying;
using test::IsOk;
using test::Qcow2Builder;

/// The table as read_snapshot_table() sees it.
Result<SnapshotTable> table_of(const std::vector<std::byte>& image) {
  test::InlineExecutor executor;
  auto memory = std::make_unique<test::MemFile>();
  memory->content()->assign(image);
  PoolFile file(std::move(memory), executor);
  auto header = test::run_inline(read_header(
      file, {.writable = false, .for_check = true, .incomplete_size = {}, .metadata_only = false}));
  if (!header) return header.error();
  return test::run_inline(read_snapshot_table(file, *header));
}

BuilderSnapshot named(std::string id, std::string name) {
  BuilderSnapshot snapshot;
  snapshot.id = std::move(id);
  snapshot.name = std::move(name);
  return snapshot;
}

TEST_CASE("Snapshot: every field of an entry is understood", "[formats][qcow2]") {
  BuilderSnapshot spec = named("7", "before");
  spec.date_sec = 11;
  spec.date_nsec = 12;
  spec.vm_clock_nsec = 13;
  spec.vm_state_size = 14;
  spec.disk_size = 2 * kMiB;
  spec.icount = 15;
  const auto table = table_of(Qcow2Builder().size(kMiB).snapshot(spec).bytes());
  REQUIRE_THAT(table, IsOk());
  REQUIRE(table->snapshots.size() == 1);
  const Snapshot& snapshot = table->snapshots[0];
  CHECK(snapshot.info.id == "7");
  CHECK(snapshot.info.name == "before");
  CHECK(snapshot.info.date_sec == 11);
  CHECK(snapshot.info.date_nsec == 12);
  CHECK(snapshot.info.vm_clock_nsec == 13);
  CHECK(snapshot.info.vm_state_size == 14);
  CHECK(snapshot.info.icount == 15);
  CHECK(snapshot.disk_size == 2 * kMiB);
  CHECK(snapshot.l1_entries == 1);
  CHECK(table->size == 40 + 24 + 1 + 6);
}

TEST_CASE("Snapshot: an entry without extra data has the disk size of the image",
          "[formats][qcow2]") {
  BuilderSnapshot spec;
  spec.extra_data_size = 0;
  spec.disk_size = 5 * kMiB;
  const auto table = table_of(Qcow2Builder().version(2).size(kMiB).snapshot(spec).bytes());
  REQUIRE_THAT(table, IsOk());
  CHECK(table->snapshots[0].disk_size == kMiB);
  CHECK_FALSE(table->snapshots[0].info.icount.has_value());
}

TEST_CASE("Snapshot: entries begin at multiples of eight", "[formats][qcow2]") {
  BuilderSnapshot odd = named("1", "a name of odd length");
  odd.extra_data_size = 40;
  const auto table =
      table_of(Qcow2Builder().size(kMiB).snapshot(odd).snapshot(named("2", "second")).bytes());
  REQUIRE_THAT(table, IsOk());
  REQUIRE(table->snapshots.size() == 2);
  CHECK(table->snapshots[1].info.id == "2");
  CHECK(table->snapshots[1].info.name == "second");
}

TEST_CASE("Snapshot: a table longer than the first read is read whole", "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.cluster_bits(12).size(kMiB);
  for (int i = 0; i < 70; ++i) {
    builder.snapshot(named(std::to_string(i), std::string(1000, 'n') + std::to_string(i)));
  }
  const auto table = table_of(builder.bytes());
  REQUIRE_THAT(table, IsOk());
  REQUIRE(table->snapshots.size() == 70);
  CHECK(table->snapshots[69].info.name == std::string(1000, 'n') + "69");
}

TEST_CASE("Snapshot: too much extra data is refused with a hint", "[formats][qcow2]") {
  std::vector<std::byte> table(40);
  store_be<uint32_t>(&table[36], 1025);
  const auto parsed = parse_snapshot_table(table, 1, kMiB);
  CHECK_THAT(parsed, FailsSaying("Too much extra metadata in snapshot table entry 0"));
  CHECK(parsed.error().hint() ==
        "You can force-remove this extra metadata with qemu-img check -r all");
}

TEST_CASE("Snapshot: a table of more than 64 MiB is refused", "[formats][qcow2]") {
  // 40 bytes, an id and a name of 65535 bytes each: 513 entries are enough.
  const uint64_t entry_bytes = round_up(40 + 2 * 65535, 8);
  std::vector<std::byte> table(entry_bytes * 520);
  for (uint64_t i = 0; i < 520; ++i) {
    store_be<uint16_t>(&table[i * entry_bytes + 12], 65535);
    store_be<uint16_t>(&table[i * entry_bytes + 14], 65535);
  }
  CHECK_THAT(parse_snapshot_table(table, 500, kMiB), IsOk());
  CHECK_THAT(parse_snapshot_table(table, 520, kMiB), FailsSaying("Snapshot table is too big"));
}

TEST_CASE("Snapshot: an id is found before a name", "[formats][qcow2]") {
  std::vector<Snapshot> snapshots(2);
  snapshots[0].info.id = "1";
  snapshots[0].info.name = "2";
  snapshots[1].info.id = "2";
  snapshots[1].info.name = "x";
  CHECK(find_snapshot(snapshots, "2") == &snapshots[1]);
  CHECK(find_snapshot(snapshots, "x") == &snapshots[1]);
  CHECK(find_snapshot(snapshots, "y") == nullptr);
}

TEST_CASE("Snapshot: an L1 table beyond the limits is refused", "[formats][qcow2]") {
  const Header header;
  Snapshot snapshot;
  snapshot.l1_table_offset = HostOffset(0x50000);
  snapshot.l1_entries = 4194304;
  CHECK_THAT(check_snapshot_l1(snapshot, header), IsOk());
  ++snapshot.l1_entries;
  CHECK_THAT(check_snapshot_l1(snapshot, header), FailsSaying("Snapshot L1 table too large"));
  snapshot.l1_entries = 1;
  snapshot.l1_table_offset = HostOffset(0x50200);
  CHECK_THAT(check_snapshot_l1(snapshot, header), FailsSaying("Snapshot L1 table offset invalid"));
}

}  // namespace
}  // namespace imgconv::qcow2
