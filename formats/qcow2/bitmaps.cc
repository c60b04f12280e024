#include "formats/qcow2/bitmaps.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "formats/qcow2/header_update.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

namespace {

// Ours, for all bitmaps of an image together; QEMU holds them in memory with all their bits.
constexpr uint64_t kMaxTableBytes = 512 * kMiB;
constexpr uint64_t kMaxLoadedBytes = 64 * kMiB;
/// QEMU's default granularity is the cluster size within these bounds (CLI.md 11).
constexpr uint64_t kMinDefaultGranularity = 4 * kKiB;
constexpr uint64_t kMaxDefaultGranularity = 64 * kKiB;

}  // namespace

Bitmaps::Bitmaps(Header& header, TableIo& io, CoMutex& mutex, std::vector<BitmapInfo> directory)
    : header_(header), io_(io), mutex_(mutex), stored_(std::move(directory)) {
  for (const BitmapInfo& info : stored_) bitmaps_.push_back({info, nullptr});
}

BitmapGeometry Bitmaps::geometry_of(const BitmapInfo& info) const {
  return {header_.guest_size(), static_cast<unsigned>(std::countr_zero(info.granularity)),
          header_.cluster_bits};
}

Task<Result<BitmapContent*>> Bitmaps::content_of(Bitmap& bitmap) {
  if (bitmap.content) co_return bitmap.content.get();
  const uint64_t table_bytes = bitmap.info.table_entries * kTableEntryBytes;
  const std::string context =
      fmt::format("Could not read bitmap_table table from image for bitmap '{}'", bitmap.info.name);
  if (table_bytes > kMaxTableBytes - table_bytes_) {
    co_return Error::from_errno(ENOMEM, context);
  }
  auto content = std::make_unique<BitmapContent>(io_, geometry_of(bitmap.info));
  Result<void> loaded = co_await content->load(bitmap.info.table_offset, bitmap.info.table_entries);
  if (!loaded) co_return std::move(loaded).error().within(context);
  table_bytes_ += table_bytes;
  bitmap.content = std::move(content);
  co_return bitmap.content.get();
}

Task<Result<void>> Bitmaps::start_writing(Writer& writer) {
  writer_ = &writer;
  for (Bitmap& bitmap : bitmaps_) {
    if (!bitmap.records_writes()) continue;
    CO_RETURN_IF_ERROR(co_await content_of(bitmap));
  }
  co_return ok();
}

Task<Result<void>> Bitmaps::mark_in_use(Concerned concerned) {
  is_marked_in_use_ = true;
  if (stored_.empty()) co_return ok();
  std::unordered_set<std::string_view> names;
  for (const Bitmap& bitmap : bitmaps_) {
    const bool is_concerned = concerned == Concerned::kAll || bitmap.records_writes();
    if (is_concerned) names.insert(bitmap.info.name);
  }
  for (BitmapInfo& info : stored_) info.is_in_use = info.is_in_use || names.contains(info.name);
  // In place: only flags change, so that each entry is the old or the new one after a crash.
  const std::vector<std::byte> directory = serialize_bitmap_directory(stored_);
  assert(directory.size() == header_.extensions.bitmaps->directory_size);
  CO_RETURN_IF_ERROR(
      co_await io_.write_one(header_.extensions.bitmaps->directory_offset.bytes(), directory));
  CO_RETURN_IF_ERROR(co_await writer_->barrier());
  co_return ok();
}

Task<Result<void>> Bitmaps::record(uint64_t guest_offset, uint64_t length) {
  const bool is_needed =
      std::ranges::any_of(bitmaps_, [](const Bitmap& bitmap) { return bitmap.records_writes(); });
  if (!is_needed) co_return ok();
  if (!is_marked_in_use_) {
    CO_RETURN_IF_ERROR(co_await mark_in_use(Concerned::kRecording));
  }
  for (Bitmap& bitmap : bitmaps_) {
    if (!bitmap.records_writes()) continue;
    CO_ASSIGN_OR_RETURN(BitmapContent* const content, co_await content_of(bitmap));
    const GuestRange range{guest_offset, guest_offset + length};
    CO_RETURN_IF_ERROR(co_await set(*content, range));
  }
  co_return ok();
}

Task<Result<void>> Bitmaps::prepare_resize(uint64_t guest_size) {
  for (const PersistentBitmap& bitmap : list()) CO_RETURN_IF_ERROR(check_consistent(bitmap));
  if (bitmaps_.empty() || guest_size == header_.guest_size()) co_return ok();
  Header resized = header_;
  resized.virtual_size = guest_size;
  for (Bitmap& bitmap : bitmaps_) {
    Result<void> possible = check_bitmap_constraints(bitmap.info, resized);
    if (!possible) {
      co_return std::move(possible).error().within(
          fmt::format("Cannot resize bitmap '{}'", bitmap.info.name));
    }
    CO_RETURN_IF_ERROR(co_await content_of(bitmap));
  }
  is_resizing_ = true;
  CO_RETURN_IF_ERROR(co_await mark_in_use(Concerned::kAll));
  co_return ok();
}

Task<Result<void>> Bitmaps::finish_resize() {
  if (!is_resizing_) co_return ok();
  for (Bitmap& bitmap : bitmaps_) {
    CO_ASSIGN_OR_RETURN(BitmapContent* const content, co_await content_of(bitmap));
    loaded_bytes_ -= content->loaded_bytes();
    CO_RETURN_IF_ERROR(co_await content->resize(header_.guest_size()));
    CO_RETURN_IF_ERROR(co_await content->spill(writer_->allocator()));
  }
  is_resizing_ = false;
  CO_RETURN_IF_ERROR(co_await store());
  co_return ok();
}

Task<Result<void>> Bitmaps::set(BitmapContent& content, GuestRange range) {
  loaded_bytes_ -= content.loaded_bytes();
  const Result<void> done = co_await content.set(range, writer_->allocator());
  loaded_bytes_ += content.loaded_bytes();
  if (!done || loaded_bytes_ <= kMaxLoadedBytes) co_return done;
  for (Bitmap& bitmap : bitmaps_) {
    if (!bitmap.content) continue;
    CO_RETURN_IF_ERROR(co_await bitmap.content->spill(writer_->allocator()));
  }
  loaded_bytes_ = 0;
  co_return ok();
}

HostClusters Bitmaps::directory_place(const BitmapsExtension& extension) const {
  return {extension.directory_offset.bytes() >> header_.cluster_bits,
          clusters_for(extension.directory_size, header_.cluster_bits).value()};
}

bool Bitmaps::is_changed() const {
  return is_directory_changed_ || is_marked_in_use_ ||
         std::ranges::any_of(bitmaps_, [](const Bitmap& bitmap) {
           return bitmap.content && bitmap.content->is_changed();
         });
}

Task<Result<void>> Bitmaps::store() {
  // Half adapted to a new size they are worth nothing, and the file says so.
  if (!is_changed() || is_resizing_) co_return ok();
  CO_RETURN_IF_ERROR(co_await write_tables());
  const std::optional<BitmapsExtension> old = header_.extensions.bitmaps;
  std::optional<BitmapsExtension> extension;
  if (!bitmaps_.empty()) {
    CO_ASSIGN_OR_RETURN(extension, co_await write_directory());
  }
  CO_RETURN_IF_ERROR(co_await point_to(extension));
  if (old) {
    const HostClusters place = directory_place(*old);
    writer_->allocator().protected_clusters().remove(place);
    released_.push_back(place);
  }
  stored_.clear();
  for (const Bitmap& bitmap : bitmaps_) stored_.push_back(bitmap.info);
  is_directory_changed_ = false;
  is_marked_in_use_ = false;
  CO_RETURN_IF_ERROR(co_await free_released());
  co_return ok();
}

Task<Result<void>> Bitmaps::write_tables() {
  for (Bitmap& bitmap : bitmaps_) {
    // Others move along, as in the original. What cannot be loaded stays where it is.
    if (bitmap.info.is_in_use) continue;
    const Result<BitmapContent*> loaded = co_await content_of(bitmap);
    if (!loaded) continue;
    loaded_bytes_ -= bitmap.content->loaded_bytes();
    CO_ASSIGN_OR_RETURN(bitmap.info.table_offset,
                        co_await bitmap.content->store(writer_->allocator()));
    bitmap.info.table_entries = bitmap.content->table_entries();
  }
  co_return ok();
}

Task<Result<BitmapsExtension>> Bitmaps::write_directory() {
  std::vector<BitmapInfo> infos;
  for (const Bitmap& bitmap : bitmaps_) infos.push_back(bitmap.info);
  const std::vector<std::byte> directory = serialize_bitmap_directory(infos);
  CO_ASSIGN_OR_RETURN(const HostClusters place,
                      co_await writer_->allocator().allocate_contiguous(
                          clusters_for(directory.size(), header_.cluster_bits).value()));
  const HostOffset offset(place.first << header_.cluster_bits);
  CO_RETURN_IF_ERROR(co_await io_.write_one(offset.bytes(), directory));
  writer_->allocator().protected_clusters().add(place, MetadataKind::kBitmapDirectory);
  co_return BitmapsExtension{static_cast<uint32_t>(infos.size()), directory.size(), offset};
}

Task<Result<void>> Bitmaps::point_to(std::optional<BitmapsExtension> extension) {
  // Refcounts, bits, tables and directory are in the file before anything refers to them.
  CO_RETURN_IF_ERROR(co_await writer_->flush(true));
  header_.extensions.bitmaps = extension;
  header_.autoclear_features &= ~kAutoclearBitmaps;
  if (extension) header_.autoclear_features |= kAutoclearBitmaps;
  Result<void> written = co_await update_header(io_.file(), header_);
  if (!written) co_return std::move(written).error().within("Failed to update bitmap extension");
  co_return ok();
}

Task<Result<void>> Bitmaps::free_released() {
  for (Bitmap& bitmap : bitmaps_) {
    if (!bitmap.content) continue;
    const std::vector<HostClusters> more = bitmap.content->take_released();
    released_.insert(released_.end(), more.begin(), more.end());
  }
  std::vector<uint64_t> clusters;
  for (const HostClusters& range : std::exchange(released_, {})) {
    for (uint64_t cluster = range.first; cluster < range.end(); ++cluster) {
      clusters.push_back(cluster);
    }
  }
  // A hostile table may name a cluster twice, what is not its own, and what is not in use at all.
  std::ranges::sort(clusters);
  clusters.erase(std::unique(clusters.begin(), clusters.end()), clusters.end());
  for (const uint64_t cluster : clusters) {
    if (!writer_->allocator().check_unprotected({cluster, 1})) continue;
    CO_ASSIGN_OR_RETURN(const uint64_t count, co_await writer_->refcounts().get(cluster));
    if (count == 0) continue;
    CO_RETURN_IF_ERROR(co_await writer_->allocator().release({cluster, 1}));
  }
  co_return ok();
}

std::vector<PersistentBitmap> Bitmaps::list() const {
  std::vector<PersistentBitmap> bitmaps;
  for (const Bitmap& bitmap : bitmaps_) {
    const BitmapInfo& info = bitmap.info;
    bitmaps.push_back(
        {info.name, info.granularity, info.is_auto && !info.is_in_use, info.is_in_use});
  }
  return bitmaps;
}

uint64_t Bitmaps::default_granularity() const {
  return std::clamp(header_.cluster_size(), kMinDefaultGranularity, kMaxDefaultGranularity);
}

Result<void> Bitmaps::check_new(const std::string& name, uint64_t granularity) const {
  if (!can_hold_bitmaps()) return Error(EINVAL, "Cannot store dirty bitmaps in qcow2 v2 files");
  BitmapInfo added;
  added.name = name;
  added.granularity = granularity;
  RETURN_IF_ERROR(check_bitmap_constraints(added, header_));
  std::vector<BitmapInfo> directory;
  for (const Bitmap& bitmap : bitmaps_) directory.push_back(bitmap.info);
  directory.push_back(std::move(added));
  if (directory.size() > kMaxBitmaps) {
    return Error(EINVAL, "Maximum number of persistent bitmaps is already reached");
  }
  if (bitmap_directory_size(directory) > kMaxBitmapDirectoryBytes) {
    return Error(EINVAL, "Not enough space in the bitmap directory");
  }
  Header extended = header_;
  extended.extensions.bitmaps.emplace();
  Result<std::vector<std::byte>> cluster0 = extended.serialize();
  if (!cluster0) return std::move(cluster0).error().within("Failed to update bitmap extension");
  return ok();
}

Task<Result<std::vector<GuestRange>>> Bitmaps::dirty_ranges(size_t index, uint64_t guest_offset) {
  const CoMutex::Guard guard = co_await mutex_.lock();
  assert(!bitmaps_[index].info.is_in_use);
  CO_ASSIGN_OR_RETURN(BitmapContent* const content, co_await content_of(bitmaps_[index]));
  co_return co_await content->dirty_ranges(guest_offset);
}

Task<Result<void>> Bitmaps::add(PersistentBitmap bitmap) {
  const CoMutex::Guard guard = co_await mutex_.lock();
  assert(writer_ != nullptr);
  Bitmap added;
  added.info.name = std::move(bitmap.name);
  added.info.granularity = bitmap.granularity;
  added.info.is_auto = bitmap.is_enabled;
  added.content = std::make_unique<BitmapContent>(io_, geometry_of(added.info));
  bitmaps_.push_back(std::move(added));
  is_directory_changed_ = true;
  co_return ok();
}

Task<Result<void>> Bitmaps::remove(size_t index) {
  const CoMutex::Guard guard = co_await mutex_.lock();
  assert(writer_ != nullptr);
  Bitmap& bitmap = bitmaps_[index];
  const Result<BitmapContent*> content = co_await content_of(bitmap);
  // What cannot be read cannot be freed: its clusters are leaked, as nothing tells which they are.
  if (content) {
    loaded_bytes_ -= (*content)->loaded_bytes();
    (*content)->release_all();
    const std::vector<HostClusters> more = (*content)->take_released();
    released_.insert(released_.end(), more.begin(), more.end());
  }
  bitmaps_.erase(bitmaps_.begin() + static_cast<ptrdiff_t>(index));
  is_directory_changed_ = true;
  co_return ok();
}

Task<Result<void>> Bitmaps::clear(size_t index) {
  const CoMutex::Guard guard = co_await mutex_.lock();
  assert(writer_ != nullptr && !bitmaps_[index].info.is_in_use);
  CO_ASSIGN_OR_RETURN(BitmapContent* const content, co_await content_of(bitmaps_[index]));
  loaded_bytes_ -= content->loaded_bytes();
  content->clear();
  co_return ok();
}

Task<Result<void>> Bitmaps::set_enabled(size_t index, bool is_enabled) {
  const CoMutex::Guard guard = co_await mutex_.lock();
  assert(writer_ != nullptr && !bitmaps_[index].info.is_in_use);
  bitmaps_[index].info.is_auto = is_enabled;
  is_directory_changed_ = true;
  is_marked_in_use_ = false;
  co_return ok();
}

Task<Result<void>> Bitmaps::mark(size_t index, const std::vector<GuestRange>& ranges) {
  const CoMutex::Guard guard = co_await mutex_.lock();
  assert(writer_ != nullptr && !bitmaps_[index].info.is_in_use);
  CO_ASSIGN_OR_RETURN(BitmapContent* const content, co_await content_of(bitmaps_[index]));
  for (const GuestRange& range : ranges) {
    CO_RETURN_IF_ERROR(co_await set(*content, range));
  }
  co_return ok();
}

}  // namespace imgconv::qcow2
