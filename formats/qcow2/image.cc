#include "formats/qcow2/image.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <utility>

#include "formats/qcow2/backing_change.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/corruption.h"
#include "formats/qcow2/make_empty.h"
#include "formats/qcow2/mapping.h"
#include "formats/qcow2/preallocation.h"
#include "loop/try.h"

namespace imgconv::qcow2 {

namespace {

// A map() call returns about this many extents at most: 0.5 MiB of them.
constexpr size_t kMaxExtents = 4096;

}  // namespace

Qcow2Image::Qcow2Image(Parts parts)
    : parts_(std::move(parts)),
      io_(*parts_.file, parts_.executor),
      tables_(parts_.header, io_),
      bitmaps_(parts_.header, io_, mutex_, std::move(parts_.bitmaps)) {}

Task<Result<ExtentList>> Qcow2Image::map(uint64_t guest_offset, uint64_t length) {
  assert(length > 0);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  if (!has_preallocated_metadata_) {
    has_preallocated_metadata_ = co_await detect_preallocation();
  }
  ExtentList extents;
  const Result<void> result = co_await map_tables(guest_offset, guest_offset + length, extents);
  // Damage further on is reported when the caller gets there.
  if (!result && extents.empty()) co_return co_await remark(result.error());
  if (*has_preallocated_metadata_) {
    ExtentList pieces;
    const bool refuses_truncated = tables_.refuses_truncated();
    auto split = [&extents, &pieces, refuses_truncated] {
      pieces = split_at_file_holes(extents, refuses_truncated);
      return ok();
    };
    CO_RETURN_IF_ERROR(co_await io_.run(split));
    co_return pieces;
  }
  co_return extents;
}

Task<Result<void>> Qcow2Image::map_tables(uint64_t guest_offset, uint64_t guest_end,
                                          ExtentList& extents) {
  const MapContext context{header(), data_file(), *parts_.file};
  while (guest_offset < guest_end && extents.size() < kMaxExtents) {
    const uint64_t guest_cluster = guest_offset >> header().cluster_bits;
    const uint64_t end_cluster = clusters_for(guest_end, header().cluster_bits).value();
    std::optional<L2Page> page = tables_.find_page(guest_cluster);
    if (!page && tables_.may_have_table(tables_.l1_index(guest_cluster))) {
      // What is there goes out before more is read: the caller can work on it meanwhile.
      if (!extents.empty() && extents.size() > kMaxExtents / 2) co_return ok();
      CO_ASSIGN_OR_RETURN(page, co_await tables_.page_with_read_ahead(guest_cluster, end_cluster));
    }
    if (page) {
      CO_RETURN_IF_ERROR(
          append_extents(context, *page, guest_offset, guest_end, kMaxExtents, extents));
    } else {
      extents.push_back(unallocated_extent(header(), guest_offset, guest_end));
    }
    guest_offset = extents.back().guest_end();
  }
  co_return ok();
}

Task<bool> Qcow2Image::detect_preallocation() {
  if (writer_) {
    const Result<bool> found =
        co_await qcow2::has_preallocated_metadata(header(), *parts_.file, writer_->refcounts());
    if (!found) static_cast<void>(co_await remark(found.error()));
    co_return found&&* found;
  }
  Refcounts refcounts(parts_.header, io_);
  const Result<void> loaded = co_await refcounts.load_table();
  if (!loaded) co_return false;
  const Result<bool> found =
      co_await qcow2::has_preallocated_metadata(header(), *parts_.file, refcounts);
  // Refcounts that cannot be read are no obstacle to reading data.
  if (!found) static_cast<void>(co_await remark(found.error()));
  co_return found&&* found;
}

Task<Error> Qcow2Image::remark(Error error) {
  if (!is_corruption(error)) co_return error;
  const bool is_news = !std::exchange(has_remarked_, true) || (writer_ && !is_given_up_);
  if (is_news && parts_.remark) parts_.remark(writer_ ? marking_line(error) : error.hint());
  if (is_news && writer_) {
    is_given_up_ = true;
    parts_.header.incompatible_features |= kIncompatCorrupt;
    // A failure would be about the mark, and the damage is what the caller must hear of.
    const Result<void> ignored = co_await write_incompatible_features();
    static_cast<void>(ignored);
  }
  if (!parts_.remark) co_return error;
  co_return Error(error.code(), error.text());
}

Result<void> Qcow2Image::check_usable() const {
  if (is_given_up_) return Error::from_errno(ENOMEDIUM);
  return ok();
}

Task<Result<void>> Qcow2Image::write_incompatible_features() {
  // Version 2 has no room for it.
  if (header().version < 3) co_return ok();
  std::array<std::byte, 8> bits;
  store_be(bits.data(), header().incompatible_features);
  CO_RETURN_IF_ERROR(co_await io_.write_one(offsetof(RawHeader, incompatible_features), bits));
  CO_RETURN_IF_ERROR(co_await parts_.file->flush());
  co_return ok();
}

Task<Result<void>> Qcow2Image::load_snapshot(const std::string& id_or_name) {
  const CoMutex::Guard guard = co_await mutex_.lock();
  const Snapshot* const snapshot = find_snapshot(parts_.snapshots, id_or_name);
  if (snapshot == nullptr) co_return Error(ENOENT, "Can't find snapshot");
  CO_RETURN_IF_ERROR(check_snapshot_l1(*snapshot, header()));
  CO_RETURN_IF_ERROR(co_await tables_.load_l1(snapshot->l1_table_offset, snapshot->l1_entries));
  co_return ok();
}

Task<Result<CheckReport>> Qcow2Image::check(const CheckSink& sink) {
  const CoMutex::Guard guard = co_await mutex_.lock();
  if (writer_) {
    CO_RETURN_IF_ERROR(co_await writer_->flush(false));
  }
  CO_ASSIGN_OR_RETURN(const CheckReport report,
                      co_await qcow2::check(*parts_.file, header(), sink));
  co_return report;
}

Task<Result<CheckReport>> Qcow2Image::repair(RepairMode mode, const CheckSink& sink) {
  // The writer's caches would be out of date afterwards.
  assert(writer_ == nullptr);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_ASSIGN_OR_RETURN(const CheckReport report,
                      co_await qcow2::repair(*parts_.file, parts_.header, mode, sink));
  parts_.info.is_dirty = header().is_dirty();
  CO_RETURN_IF_ERROR(co_await tables_.load_l1(header().l1_table_offset, header().l1_entries));
  co_return report;
}

Task<Result<void>> Qcow2Image::record_write(uint64_t guest_offset, uint64_t length) {
  length = std::min(length, header().guest_size() - guest_offset);
  CO_RETURN_IF_ERROR(co_await bitmaps_.record(guest_offset, length));
  co_return ok();
}

Task<Result<std::vector<HostRun>>> Qcow2Image::reserve(uint64_t guest_offset, uint64_t length) {
  assert(writer_ != nullptr);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  CO_RETURN_IF_ERROR(co_await record_write(guest_offset, length));
  Result<std::vector<HostRun>> runs = co_await writer_->reserve(guest_offset, length);
  if (!runs) co_return co_await remark(runs.error());
  co_return runs;
}

Task<Result<void>> Qcow2Image::link(uint64_t guest_offset, uint64_t length) {
  assert(writer_ != nullptr);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  Result<void> done = co_await writer_->link(guest_offset, length);
  if (!done) co_return co_await remark(done.error());
  co_return done;
}

Task<Result<void>> Qcow2Image::write_zeroes(uint64_t guest_offset, uint64_t length,
                                            bool may_unmap) {
  assert(writer_ != nullptr);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  CO_RETURN_IF_ERROR(co_await record_write(guest_offset, length));
  Result<void> done = co_await writer_->write_zeroes(guest_offset, length, may_unmap);
  if (!done) co_return co_await remark(done.error());
  co_return done;
}

std::optional<CompressionInfo> Qcow2Image::compression() const {
  if (header().has_data_file()) return std::nullopt;
  return CompressionInfo{header().compression, header().cluster_size()};
}

Task<Result<HostRun>> Qcow2Image::reserve_compressed(uint64_t guest_offset, uint64_t payload) {
  assert(writer_ != nullptr);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  CO_RETURN_IF_ERROR(co_await record_write(guest_offset, header().cluster_size()));
  Result<HostRun> run = co_await writer_->reserve_compressed(guest_offset, payload);
  if (!run) co_return co_await remark(run.error());
  co_return run;
}

void Qcow2Image::set_backing_reader(BackingReader reader) {
  assert(writer_ != nullptr);
  writer_->set_backing_reader(std::move(reader));
}

bool Qcow2Image::reads_as_zeros_initially() const {
  if (!header().backing_file.empty()) return false;
  if (!tables_.has_any_table()) return true;
  // Preallocated clusters show what the file held before.
  File& data = parts_.data_file ? *parts_.data_file : *parts_.file;
  const Result<FileStat> stat = data.stat();
  return stat && stat->extends_with_zeros;
}

Task<Result<void>> Qcow2Image::flush(bool sync) {
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  if (!writer_) co_return ok();
  Result<void> flushed = co_await writer_->flush(sync);
  if (!flushed) co_return co_await remark(flushed.error());
  co_return flushed;
}

Task<Result<void>> Qcow2Image::change_backing(const std::string& name, const std::string& format) {
  assert(writer_ != nullptr);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  CO_RETURN_IF_ERROR(co_await writer_->flush(true));
  CO_RETURN_IF_ERROR(co_await qcow2::change_backing(io_, parts_.header, name, format));
  parts_.info.backing_file = name;
  parts_.info.backing_format = name.empty() ? "" : format;
  CO_RETURN_IF_ERROR(co_await parts_.file->flush());
  co_return ok();
}

std::vector<File*> Qcow2Image::files() {
  std::vector<File*> files = {parts_.file.get()};
  if (parts_.data_file) files.push_back(parts_.data_file.get());
  return files;
}

Task<Result<void>> Qcow2Image::mark_complete() {
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  if (!header().is_incomplete) co_return ok();
  parts_.header.is_incomplete = false;
  parts_.header.incompatible_features &= ~kIncompatCorrupt;
  CO_ASSIGN_OR_RETURN(const std::vector<std::byte> cluster0, header().serialize());
  // The size and the bit are in one sector, so that no crash separates them.
  CO_RETURN_IF_ERROR(co_await io_.write_one(0, std::span(cluster0).first(kSectorSize)));
  CO_RETURN_IF_ERROR(co_await parts_.file->flush());
  co_return ok();
}

Task<Result<void>> Qcow2Image::make_empty() {
  assert(writer_ != nullptr);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  CO_RETURN_IF_ERROR(co_await writer_->flush(true));
  if (!can_cut_back(header())) {
    CO_RETURN_IF_ERROR(co_await empty_tables(*writer_, header()));
    co_return ok();
  }
  // What it knows of the refcounts is void from here on; close() finds nothing to write.
  writer_.reset();
  CO_RETURN_IF_ERROR(co_await cut_back(io_, header()));
  co_return ok();
}

Task<Result<void>> Qcow2Image::close() {
  const CoMutex::Guard guard = co_await mutex_.lock();
  // What is corrupt is left as it is; the request that found it has failed.
  if (!writer_ || is_given_up_) co_return ok();
  Result<void> stored = co_await bitmaps_.store();
  // Also after a failure, which is the more interesting error then.
  Result<void> closed = co_await writer_->close();
  if (!stored) co_return co_await remark(stored.error());
  if (!closed) co_return co_await remark(closed.error());
  co_return ok();
}

}  // namespace imgconv::qcow2
