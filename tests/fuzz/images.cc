// Fuzz targets: whole qcow2 images in memory, through the driver as the commands use it. What is
// judged is that nothing is touched which is not ours (sanitizers, assertions), that work is
// bounded (libFuzzer's limits of time and memory), and that a repair leaves what can be checked.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <utility>

#include "formats/extent_io.h"
#include "formats/registry.h"
#include "loop/pool_file.h"
#include "loop/units.h"
#include "tests/fuzz/target.h"
#include "tests/support/inline_executor.h"
#include "tests/support/mem_file.h"

namespace imgconv::fuzz {
namespace {

using test::run_inline;

/// Bounds of what one input is read for: a header of 112 bytes may announce exbibytes.
constexpr uint64_t kMaxReadBytes = 8 * kMiB;
constexpr unsigned kMaxMaps = 256;
constexpr size_t kMaxListed = 4;

/// An image file in memory, which may be opened again and again.
class Disk {
 public:
  explicit Disk(Bytes bytes) { content_->assign(bytes); }

  Result<std::unique_ptr<Image>> open(OpenImageOptions options) {
    options.open_data_file = [this](const std::string& name,
                                    bool writable) -> Result<std::unique_ptr<File>> {
      return file(name, data_file_, writable);
    };
    options.executor = &executor_;
    return run_inline(
        find_driver("qcow2")->open(file("image", content_, options.writable), std::move(options)));
  }

 private:
  std::unique_ptr<File> file(const std::string& name,
                             const std::shared_ptr<test::MemContent>& content, bool writable) {
    return std::make_unique<PoolFile>(std::make_unique<test::MemFile>(name, content, writable),
                                      executor_);
  }

  test::InlineExecutor executor_;
  const std::shared_ptr<test::MemContent> content_ = std::make_shared<test::MemContent>();
  const std::shared_ptr<test::MemContent> data_file_ = std::make_shared<test::MemContent>();
};

OpenImageOptions options_of(bool writable, bool for_check) {
  OpenImageOptions options;
  options.writable = writable;
  options.for_check = for_check;
  return options;
}

void read_disk(Image& image) {
  const uint64_t size = image.info().virtual_size;
  uint64_t left = kMaxReadBytes;
  std::vector<std::byte> buffer;
  unsigned maps = 0;
  for (uint64_t at = 0; at < size && left > 0 && maps < kMaxMaps; ++maps) {
    const auto extents = run_inline(image.map(at, size - at));
    if (!extents) return;
    if (extents->empty() || extents->front().guest_offset != at) std::abort();
    for (const Extent& extent : *extents) {
      if (extent.guest_offset != at || extent.length == 0) std::abort();
      at = extent.guest_end();
      if (at > size) std::abort();
      if (extent.length > left) continue;
      left -= extent.length;
      buffer.resize(extent.length);
      static_cast<void>(read_extents(std::span(&extent, 1), buffer));
    }
  }
}

void read_bitmaps(Image& image) {
  BitmapStore* bitmaps = image.bitmaps();
  if (bitmaps == nullptr) return;
  const auto list = bitmaps->list();
  for (size_t index = 0; index < std::min(list.size(), kMaxListed); ++index) {
    if (list[index].is_inconsistent) continue;
    static_cast<void>(run_inline(bitmaps->dirty_ranges(index, 0)));
  }
}

/// `map`, `convert`, `compare`: L1 and L2 tables, data, snapshots, bitmaps.
void walk(Bytes bytes) {
  for (const bool is_untrusted : {false, true}) {
    Disk disk(bytes);
    OpenImageOptions options = options_of(false, false);
    if (is_untrusted) options.limits = ImageLimits();
    const auto image = disk.open(std::move(options));
    if (!image) continue;
    read_disk(**image);
    read_bitmaps(**image);
    const std::vector<SnapshotInfo> snapshots = (*image)->info().snapshots;
    for (size_t n = 0; n < std::min(snapshots.size(), kMaxListed); ++n) {
      if (run_inline((*image)->load_snapshot(snapshots[n].id))) read_disk(**image);
    }
    static_cast<void>(run_inline((*image)->close()));
  }
}

/// `check` and `check -r`: the refcounts. What a repair leaves can be checked again.
void check(Bytes bytes) {
  const CheckSink silence = [](const std::string&) {};
  for (const RepairMode mode : {RepairMode::kNone, RepairMode::kLeaks, RepairMode::kAll}) {
    Disk disk(bytes);
    const auto image = disk.open(options_of(mode != RepairMode::kNone, true));
    if (!image) return;
    const auto report = mode == RepairMode::kNone ? run_inline((*image)->check(silence))
                                                  : run_inline((*image)->repair(mode, silence));
    const auto closed = run_inline((*image)->close());
    if (mode == RepairMode::kNone || !report || !closed || report->check_errors > 0) continue;
    const auto repaired = disk.open(options_of(false, true));
    if (!repaired) std::abort();
    const auto second = run_inline((*repaired)->check(silence));
    if (!second || second->check_errors > 0) std::abort();
  }
}

/// What writes to a guest range, as a copy does.
Result<void> write_range(Image& image, uint64_t guest_offset, uint64_t length) {
  const std::vector<std::byte> data(length, std::byte{0x77});
  const auto runs = run_inline(image.reserve(guest_offset, length));
  if (!runs) return runs.error();
  for (const HostRun& run : *runs) {
    const auto written =
        run_inline(run.file->write(run.host_offset, std::span(data).first(run.length)));
    if (!written) return written;
  }
  return run_inline(image.link(guest_offset, length));
}

/// `convert -n`, `snapshot`, `resize`, `bitmap`, `amend`: whatever changes an image.
void change(Bytes bytes) {
  Disk disk(bytes);
  const auto opened = disk.open(options_of(true, false));
  if (!opened) return;
  Image& image = **opened;
  const uint64_t size = image.info().virtual_size;
  image.set_backing_reader([](uint64_t, std::span<std::byte> buffer) -> Task<Result<void>> {
    std::fill(buffer.begin(), buffer.end(), std::byte{0});
    co_return ok();
  });
  const uint64_t length = std::min<uint64_t>(size, 3 * 512);
  if (length > 0) {
    static_cast<void>(write_range(image, 0, length));
    static_cast<void>(write_range(image, size - length, length));
    static_cast<void>(run_inline(image.write_zeroes(0, length, true)));
  }
  static_cast<void>(run_inline(image.flush(true)));
  SnapshotInfo snapshot;
  snapshot.name = "new";
  static_cast<void>(run_inline(image.create_snapshot(snapshot)));
  if (length > 0) static_cast<void>(write_range(image, 0, length));
  static_cast<void>(run_inline(image.apply_snapshot("new")));
  const std::vector<SnapshotInfo> snapshots = image.info().snapshots;
  if (!snapshots.empty()) {
    static_cast<void>(run_inline(image.delete_snapshot(snapshots.front().name)));
  }
  if (size < kGiB) {
    ResizeRequest request;
    request.virtual_size = round_up(size, 512) + 64 * kKiB;
    static_cast<void>(run_inline(image.resize(request)));
  }
  if (BitmapStore* bitmaps = image.bitmaps(); bitmaps != nullptr && !bitmaps->list().empty()) {
    static_cast<void>(run_inline(bitmaps->remove(0)));
  }
  static_cast<void>(run_inline(image.flush(true)));
  static_cast<void>(run_inline(image.close()));
}

constexpr std::array<FuzzTarget, 3> kTargets = {
    {{"walk", walk, true}, {"check", check, true}, {"change", change, true}}};

}  // namespace

std::span<const FuzzTarget> image_targets() { return kTargets; }

}  // namespace imgconv::fuzz
