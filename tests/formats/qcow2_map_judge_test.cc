// map() against the genuine qemu-img map: equal after merging what qemu-img merges.
#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "loop/posix_storage.h"
#include "tests/formats/qcow2_disk.h"
#include "tests/support/qemu_img.h"
#include "tests/support/temp_dir.h"

namespace imgconv::test {

namespace {

/// "start+length zero data offset", one per line of qemu-img map.
std::vector<std::string> genuine_map(const std::string& directory) {
  const CommandResult map = qemu_img({"map", "--output=json", "disk.qcow2"}, directory);
  INFO(map.err);
  REQUIRE(map.exit_status == 0);
  std::vector<std::string> lines;
  for (const auto& entry : nlohmann::json::parse(map.out)) {
    std::string line = std::to_string(entry["start"].get<uint64_t>()) + "+" +
                       std::to_string(entry["length"].get<uint64_t>());
    if (entry["zero"].get<bool>()) line += " zero";
    if (entry["data"].get<bool>()) line += " data";
    if (entry.contains("offset")) line += " " + std::to_string(entry["offset"].get<uint64_t>());
    lines.push_back(line);
  }
  return lines;
}

bool is_zero_extent(const Extent& extent) {
  return extent.is_zero || extent.kind == ExtentKind::kZero ||
         extent.kind == ExtentKind::kUnallocated;
}
bool is_data_extent(const Extent& extent) {
  return extent.kind == ExtentKind::kData || extent.kind == ExtentKind::kCompressed;
}
bool merges_with(const Extent& a, const Extent& b) {
  const bool is_contiguous = !a.has_host_offset || a.host_offset + a.length == b.host_offset;
  return a.kind == b.kind && a.is_zero == b.is_zero && a.has_host_offset == b.has_host_offset &&
         is_contiguous;
}

std::vector<std::string> own_map(Qcow2Disk& disk) {
  ExtentList merged;
  for (const Extent& extent : disk.map(0, disk.size())) {
    if (!merged.empty() && merges_with(merged.back(), extent)) {
      merged.back().length += extent.length;
    } else {
      merged.push_back(extent);
    }
  }
  std::vector<std::string> lines;
  for (const Extent& extent : merged) {
    std::string line = std::to_string(extent.guest_offset) + "+" + std::to_string(extent.length);
    if (is_zero_extent(extent)) line += " zero";
    if (is_data_extent(extent)) line += " data";
    if (extent.has_host_offset) line += " " + std::to_string(extent.host_offset);
    lines.push_back(line);
  }
  return lines;
}

}  // namespace

TEST_CASE("Qcow2Image: map equals qemu-img map on images of qemu-img", "[formats][qcow2][judge]") {
  if (skip_without_qemu_img()) return;
  const std::string options =
      GENERATE("cluster_size=64k", "cluster_size=512", "cluster_size=2M", "compat=0.10",
               "preallocation=metadata", "preallocation=metadata,cluster_size=4k",
               "preallocation=metadata,extended_l2=on", "preallocation=full", "extended_l2=on");
  const bool is_compressed = GENERATE(false, true);
  if (is_compressed && options.find("preallocation") != std::string::npos) return;
  CAPTURE(options, is_compressed);
  const TempDir dir;
  std::vector<std::byte> source(3 * kMiB);
  fill_pattern(std::span(source).subspan(100 * kKiB, 200 * kKiB), 0);
  fill_pattern(std::span(source).subspan(kMiB, 700 * kKiB), 0);
  write_file(dir.file("source.raw"), source);
  std::vector<std::string> command = {"convert", "-f", "raw", "-O", "qcow2", "-o", options};
  if (is_compressed) command.push_back("-c");
  command.insert(command.end(), {"source.raw", "disk.qcow2"});
  REQUIRE(qemu_img(command, dir.path()).exit_status == 0);
  // The real file, since preallocated metadata asks the file system where holes are.
  InlineExecutor executor;
  PosixStorage storage(executor, [](bool) { return static_cast<Uring*>(nullptr); });
  Result<std::unique_ptr<File>> file = storage.open(dir.file("disk.qcow2"), OpenFileOptions());
  REQUIRE_THAT(file, IsOk());
  Qcow2Disk disk;
  REQUIRE_THAT(disk.try_open(std::move(*file), false), IsOk());
  CHECK(own_map(disk) == genuine_map(dir.path()));
  CHECK(disk.read(0, source.size()) == source);
}

TEST_CASE("Writer: a fresh image maps like the one qemu-img writes", "[formats][qcow2][judge]") {
  if (skip_without_qemu_img()) return;
  const std::string options =
      GENERATE("cluster_size=64k", "cluster_size=512", "cluster_size=512,refcount_bits=64",
               "cluster_size=2M", "compat=0.10,cluster_size=4k", "cluster_size=16k,extended_l2=on");
  CAPTURE(options);
  const TempDir dir;
  // Less than makes a refcount table grow: the new one we place elsewhere than qemu-img.
  const std::vector<std::byte> source = pattern(0, kMiB + kMiB / 2);
  write_file(dir.file("source.raw"), source);
  REQUIRE(
      qemu_img({"convert", "-f", "raw", "-O", "qcow2", "-o", options, "source.raw", "disk.qcow2"},
               dir.path())
          .exit_status == 0);
  Qcow2Disk disk;
  disk.create(source.size(), options);
  disk.open(true);
  disk.write(0, source);
  CHECK(own_map(disk) == genuine_map(dir.path()));
  disk.close();
}

}  // namespace imgconv::test
