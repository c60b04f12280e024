// Qcow2Disk: a qcow2 image in memory for tests that read and write it through the driver, the way
// the engine does: reserve, write to the runs, link. Its backing image, if any, is a pattern.
#pragma once

#include <catch2/catch.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/codec.h"
#include "formats/extent_io.h"
#include "formats/qcow2/driver.h"
#include "loop/try.h"
#include "loop/units.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"

namespace imgconv::test {

class Qcow2Disk {
 public:
  static constexpr uint16_t kBackingSeed = 0x0BAC;
  static constexpr const char* kName = "disk.qcow2";

  /// Creates the image; `options` as behind -o.
  void create(uint64_t size, const std::string& options) {
    Result<OptionValues> values = parse_options(qcow2_driver().create_options(), options);
    REQUIRE_THAT(values, IsOk());
    CreateImageOptions create_options;
    create_options.virtual_size = size;
    create_options.options = *values;
    create_options.create_data_file = [this](const std::string& name) {
      return Result<std::unique_ptr<File>>(storage.file(name));
    };
    std::unique_ptr<File> file = storage.file(kName);
    REQUIRE_THAT(run_inline(qcow2_driver().create(*file, create_options)), IsOk());
  }

  Result<void> try_open(bool writable) { return try_open(storage.file(kName, writable), writable); }
  Result<void> try_open(std::unique_ptr<File> file, bool writable) {
    OpenImageOptions options;
    options.writable = writable;
    options.executor = &storage.executor();
    options.remark = [this](const std::string& line) { remarks.push_back(line); };
    options.open_data_file = [this](const std::string& name,
                                    bool for_writing) -> Result<std::unique_ptr<File>> {
      if (name.empty()) return Error(EINVAL, "'data-file' is required for this image");
      return storage.file(name, for_writing);
    };
    Result<std::unique_ptr<Image>> opened =
        run_inline(qcow2_driver().open(std::move(file), options));
    if (!opened) return Error(std::move(opened).error());
    image = std::move(*opened);
    if (writable) image->set_backing_reader(&read_backing);
    return ok();
  }
  void open(bool writable) { REQUIRE_THAT(try_open(writable), IsOk()); }
  void close() {
    REQUIRE_THAT(run_inline(image->close()), IsOk());
    image.reset();
  }
  uint64_t size() const { return image->info().virtual_size; }

  static Task<Result<void>> read_backing(uint64_t guest_offset, std::span<std::byte> buffer) {
    fill_pattern(buffer, guest_offset, kBackingSeed);
    co_return ok();
  }

  static Result<void> write_runs(const std::vector<HostRun>& runs,
                                 std::span<const std::byte> bytes) {
    for (const HostRun& run : runs) {
      RETURN_IF_ERROR(run.file->blocking().write(run.host_offset, bytes.first(run.length)));
      bytes = bytes.subspan(run.length);
    }
    return ok();
  }
  Result<void> try_write(uint64_t guest_offset, std::span<const std::byte> bytes) {
    ASSIGN_OR_RETURN(const std::vector<HostRun> runs,
                     run_inline(image->reserve(guest_offset, bytes.size())));
    RETURN_IF_ERROR(write_runs(runs, bytes));
    return run_inline(image->link(guest_offset, bytes.size()));
  }
  void write(uint64_t guest_offset, std::span<const std::byte> bytes) {
    REQUIRE_THAT(try_write(guest_offset, bytes), IsOk());
  }
  /// False when the cluster does not shrink.
  bool write_compressed(uint64_t guest_offset, std::span<const std::byte> cluster) {
    const CompressionInfo info = *image->compression();
    std::vector<std::byte> stream(info.cluster_size - 1);
    const std::optional<size_t> length = thread_compressor(info.codec).compress(cluster, stream);
    if (!length) return false;
    stream.resize(*length);
    Result<HostRun> run = run_inline(image->reserve_compressed(guest_offset, stream.size()));
    REQUIRE_THAT(run, IsOk());
    REQUIRE_THAT(write_runs({*run}, stream), IsOk());
    REQUIRE_THAT(run_inline(image->link(guest_offset, cluster.size())), IsOk());
    return true;
  }

  ExtentList map(uint64_t guest_offset, uint64_t length) {
    ExtentList all;
    const uint64_t end = guest_offset + length;
    while (guest_offset < end) {
      Result<ExtentList> part = run_inline(image->map(guest_offset, end - guest_offset));
      REQUIRE_THAT(part, IsOk());
      REQUIRE(part->front().guest_offset == guest_offset);
      all.insert(all.end(), part->begin(), part->end());
      guest_offset = part->back().guest_end();
    }
    REQUIRE(guest_offset == end);
    return all;
  }
  std::vector<std::byte> read(uint64_t guest_offset, uint64_t length) {
    std::optional<std::vector<std::byte>> bytes = try_read(guest_offset, length);
    REQUIRE(bytes.has_value());
    return *std::move(bytes);
  }
  /// Nothing when an extent cannot be read.
  std::optional<std::vector<std::byte>> try_read(uint64_t guest_offset, uint64_t length) {
    const ExtentList extents = map(guest_offset, length);
    std::vector<std::byte> bytes(length);
    if (!read_extents(extents, bytes)) return std::nullopt;
    if (image->info().backing_file.empty()) return bytes;
    for (const Extent& extent : extents) {
      if (extent.kind != ExtentKind::kUnallocated) continue;
      fill_pattern(std::span(bytes).subspan(extent.guest_offset - guest_offset, extent.length),
                   extent.guest_offset, kBackingSeed);
    }
    return bytes;
  }
  /// Lines of `check`; empty when the image is clean.
  std::vector<std::string> check() {
    std::vector<std::string> lines;
    Result<CheckReport> report =
        run_inline(image->check([&lines](const std::string& line) { lines.push_back(line); }));
    REQUIRE_THAT(report, IsOk());
    if (lines.empty()) REQUIRE(report->corruptions + report->leaks + report->check_errors == 0);
    return lines;
  }

  MemStorage storage;
  /// Lines on damage that the image has said so far.
  std::vector<std::string> remarks;
  std::unique_ptr<Image> image;
};

}  // namespace imgconv::test
