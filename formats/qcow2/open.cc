// Opening a qcow2 image: from a file to a Qcow2Image, with QEMU's checks in QEMU's order.
#include <cerrno>

#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/header_update.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/image_info.h"
#include "formats/qcow2/limits.h"
#include "loop/try.h"

namespace imgconv::qcow2 {

namespace {

Result<std::unique_ptr<File>> open_data_file(const Header& header,
                                             const OpenImageOptions& options) {
  if (!header.has_data_file() || options.metadata_only) return std::unique_ptr<File>();
  if (!options.open_data_file) return Error(EINVAL, "'data-file' is required for this image");
  return options.open_data_file(header.extensions.data_file.value_or(""), options.writable);
}

void warn_of_bitmaps(const Header& header, const OpenImageOptions& options) {
  if (!options.warn || !options.remark) return;
  options.warn(header.version < 3
                   ? "This qcow2 v2 image contains bitmaps, but they may have been modified by a "
                     "program without persistent bitmap support; so now they must all be "
                     "considered inconsistent"
                   : kInconsistentBitmapsWarning);
  options.remark("Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix.");
}

/// A table where no file of QEMU's can reach is not one of zeros.
Result<void> check_l1_place(const Header& header) {
  const uint64_t bytes = header.l1_entries * kTableEntryBytes;
  if (bytes == 0 || header.l1_table_offset.bytes() <= kMaxDiskSize - bytes) return ok();
  return Error::from_errno(EIO, "Could not read L1 table");
}

}  // namespace

Task<Result<std::unique_ptr<Image>>> Qcow2Image::open(std::unique_ptr<File> file,
                                                      OpenImageOptions options) {
  HeaderParseOptions parse_options;
  parse_options.writable = options.writable;
  parse_options.for_check = options.for_check;
  parse_options.incomplete_size = options.incomplete_size;
  parse_options.metadata_only = options.metadata_only;
  Parts parts;
  parts.file = std::move(file);
  parts.executor = options.executor;
  parts.remark = options.remark;
  CO_ASSIGN_OR_RETURN(parts.header, co_await read_header(*parts.file, parse_options));
  const Header& header = parts.header;
  if (options.limits) {
    CO_ASSIGN_OR_RETURN(const FileStat stat, parts.file->stat());
    CO_RETURN_IF_ERROR(check_limits(header, stat.length, *options.limits));
  }
  CO_RETURN_IF_ERROR(check_l1_place(header));
  if (header.extensions.has_inconsistent_bitmaps) warn_of_bitmaps(header, options);
  CO_ASSIGN_OR_RETURN(parts.data_file, open_data_file(header, options));
  if (header.is_encrypted() && !options.metadata_only) {
    co_return Error(EINVAL, "Parameter 'encrypt.key-secret' is required for cipher");
  }

  // check() reads the table itself, after a look at its size.
  if (!options.for_check || options.limits) {
    Result<SnapshotTable> table = co_await read_snapshot_table(*parts.file, header);
    if (!table && !options.for_check) co_return std::move(table).error();
    if (table && options.limits) {
      CO_RETURN_IF_ERROR(check_limits(table->snapshots, *options.limits));
    }
    if (table && !options.for_check) parts.snapshots = std::move(table->snapshots);
  }
  CO_ASSIGN_OR_RETURN(parts.bitmaps, co_await read_bitmap_directory(*parts.file, header));
  parts.info = make_image_info(header, parts.snapshots, parts.bitmaps);

  auto image = std::make_unique<Qcow2Image>(std::move(parts));
  CO_RETURN_IF_ERROR(co_await image->load_tables(options));
  co_return std::unique_ptr<Image>(std::move(image));
}

Task<Result<void>> Qcow2Image::load_tables(const OpenImageOptions& options) {
  if (options.metadata_only) co_return ok();
  if (options.refuse_truncated) tables_.refuse_truncated();
  if (options.writable) {
    CO_RETURN_IF_ERROR(co_await clear_unknown_features(*parts_.file, parts_.header));
  }
  if (options.writable && !options.for_check && header().is_dirty()) {
    CO_RETURN_IF_ERROR(co_await repair_dirty_image());
  }
  CO_RETURN_IF_ERROR(co_await tables_.load_l1(header().l1_table_offset, header().l1_entries));
  if (options.writable && !options.for_check) {
    CO_RETURN_IF_ERROR(co_await start_writing());
  }
  co_return ok();
}

Task<Result<void>> Qcow2Image::repair_dirty_image() {
  // The refcounts were in doubt when the last writer died.
  const CheckSink print_line = [this](const std::string& line) {
    if (parts_.remark) parts_.remark(line);
  };
  const Result<CheckReport> report =
      co_await qcow2::repair(*parts_.file, parts_.header, RepairMode::kAll, print_line);
  // What cannot be repaired is no reason to refuse as long as all of it was looked at.
  const bool is_done = report && report->check_errors == 0;
  if (!is_done) {
    co_return Error::from_errno(report ? EIO : report.error().code(),
                                "Could not repair dirty image");
  }
  parts_.info.is_dirty = header().is_dirty();
  co_return ok();
}

Task<Result<void>> Qcow2Image::start_writing() {
  CO_ASSIGN_OR_RETURN(const FileStat stat, parts_.file->stat());
  const Allocator::FileFacts facts{stat.length, stat.extends_with_zeros, !stat.ignores_flush};
  writer_ = std::make_unique<Writer>(parts_.header, io_, tables_, data_file(), facts);
  if (parts_.remark) writer_->set_remark(parts_.remark);
  CO_RETURN_IF_ERROR(co_await writer_->start());
  writer_->protect_snapshots(parts_.snapshots);
  CO_RETURN_IF_ERROR(co_await bitmaps_.start_writing(*writer_));
  co_return ok();
}

}  // namespace imgconv::qcow2
