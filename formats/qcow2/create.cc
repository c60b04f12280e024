#include "formats/qcow2/create.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "formats/byteorder.h"
#include "formats/qcow2/entries.h"
#include "formats/qcow2/l2_tables.h"
#include "formats/qcow2/metadata.h"
#include "formats/qcow2/on_disk.h"
#include "formats/qcow2/refcount_space.h"
#include "formats/qcow2/refcount_width.h"
#include "formats/qcow2/table_io.h"
#include "formats/qcow2/writer.h"
#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

/// Bytes of one write while tables and zeros are put out.
constexpr uint64_t kWriteBytes = kMiB;

/// Would the refcount table be too large for all that the image may come to hold at once?
Result<void> check_refcount_table(const CreateRequest& request) {
  const Header& header = request.header;
  const bool is_mapped = request.preallocation != Preallocation::kOff;
  const uint64_t data_clusters =
      is_mapped && !header.has_data_file()
          ? clusters_for(header.virtual_size, header.cluster_bits).value()
          : 0;
  const uint64_t l1_bytes = header.l1_entries * kTableEntryBytes;
  const uint64_t others = 1 + clusters_for(l1_bytes, header.cluster_bits).value() +
                          (is_mapped ? header.l1_entries : 0) + data_clusters;
  const RefcountSpace space = refcount_space(others, header.cluster_bits, header.refcount_order);
  if (space.table_clusters > kMaxRefcountTableBytes >> header.cluster_bits) {
    return image_too_large();
  }
  return ok();
}

Result<CreateRequest> plan_create(const CreateImageOptions& options) {
  ASSIGN_OR_RETURN(CreateRequest request, parse_create_request(options));
  request.header.is_incomplete = options.is_incomplete;
  if (options.is_incomplete && request.header.version >= 3) {
    request.header.incompatible_features |= kIncompatCorrupt;
  }
  RETURN_IF_ERROR(check_refcount_table(request));
  const Header& header = request.header;
  const auto assign_error = [&header](int code) {
    return Error::from_errno(
        code, fmt::format("Could not assign backing file '{}' with format '{}'",
                          header.backing_file, header.extensions.backing_format.value_or("")));
  };
  if (header.backing_file.size() > kMaxBackingNameBytes) return assign_error(EINVAL);
  auto cluster0 = header.serialize();
  if (!cluster0) {
    return header.backing_file.empty() ? std::move(cluster0).error()
                                       : assign_error(cluster0.error().code());
  }
  return request;
}

Task<Result<void>> write_zero_bytes(File& file, uint64_t host_offset, uint64_t length) {
  const std::vector<std::byte> zeros(std::min(length, kWriteBytes));
  for (uint64_t done = 0; done < length;) {
    const uint64_t step = std::min<uint64_t>(length - done, zeros.size());
    CO_RETURN_IF_ERROR(co_await file.write(host_offset + done, std::span(zeros).first(step)));
    done += step;
  }
  co_return ok();
}

/// Block devices keep their length.
Task<Result<void>> set_length(File& file, uint64_t length) {
  CO_ASSIGN_OR_RETURN(const FileStat stat, file.stat());
  if (stat.is_block_device) co_return ok();
  auto truncated = co_await file.truncate(length);
  if (truncated) co_return ok();
  if (truncated.error().code() == EFBIG) co_return image_too_large();
  co_return std::move(truncated).error();
}

/// The image before it has anything of a disk: the header's cluster, the refcount table, a block.
Task<Result<void>> write_first_refcounts(File& file, Header& header) {
  constexpr uint64_t kTableCluster = 1;
  constexpr uint64_t kBlockCluster = 2;
  const uint64_t cluster_size = header.cluster_size();
  header.refcount_table_offset = HostOffset(kTableCluster << header.cluster_bits);
  header.refcount_table_clusters = 1;
  std::vector<std::byte> clusters(2 * cluster_size);
  const HostOffset block_offset(kBlockCluster << header.cluster_bits);
  store_be(clusters.data(), RefcountTableEntry::block(block_offset).raw());
  for (const uint64_t cluster : {uint64_t{0}, kTableCluster, kBlockCluster}) {
    store_refcount(&clusters[cluster_size], cluster, header.refcount_order, 1);
  }
  CO_RETURN_IF_ERROR(co_await file.write(header.refcount_table_offset.bytes(), clusters));
  co_return ok();
}

/// Gives the range its space as the mode wants; the file already reaches over it.
Task<Result<void>> fill_data(File& file, uint64_t host_offset, uint64_t length,
                             Preallocation preallocation) {
  if (length == 0) co_return ok();
  constexpr const char* kContext = "Could not resize image: Failed to resize underlying file";
  if (preallocation == Preallocation::kFull) {
    auto written = co_await write_zero_bytes(file, host_offset, length);
    if (!written) {
      co_return std::move(written)
          .error()
          .within("Could not write zeros for preallocation")
          .within(kContext);
    }
  } else if (preallocation == Preallocation::kFalloc) {
    auto allocated = co_await file.allocate(host_offset, length);
    if (!allocated) co_return std::move(allocated).error().within(kContext);
  }
  co_return ok();
}

/// falloc and full: the data is one piece, behind refcounts that count all of it; tables stand
/// around it.
Task<Result<void>> place_data_area(Writer& writer, const CreateRequest& request) {
  const Metadata metadata = writer.metadata();
  const Header& header = metadata.header;
  const unsigned bits = header.cluster_bits;
  const uint64_t data_clusters = clusters_for(header.virtual_size, bits).value();
  // As QEMU estimates, which decides how large the refcount table becomes: one too many.
  const uint64_t l2_tables = div_round_up(data_clusters, header.l2_entries()) + 1;
  File& file = metadata.io.file();
  CO_ASSIGN_OR_RETURN(const FileStat stat, file.stat());
  CO_ASSIGN_OR_RETURN(const uint64_t end, co_await metadata.refcounts.end_of_use(
                                              clusters_for(stat.length, bits).value()));
  CO_ASSIGN_OR_RETURN(const uint64_t begin, co_await metadata.allocator.move_table(
                                                end, data_clusters + l2_tables, false));
  if (data_clusters == 0) co_return ok();
  const HostClusters area{begin, data_clusters};
  CO_RETURN_IF_ERROR(co_await metadata.allocator.take(area));
  CO_RETURN_IF_ERROR(co_await set_length(file, area.end() << bits));
  CO_RETURN_IF_ERROR(
      co_await fill_data(file, begin << bits, data_clusters << bits, request.preallocation));
  CO_RETURN_IF_ERROR(co_await writer.map_clusters(0, area, SubclusterBitmap()));
  co_return ok();
}

/// Maps every cluster of the disk. Subclusters stay unallocated, as in QEMU.
Task<Result<void>> preallocate(Writer& writer, const CreateRequest& request) {
  if (request.preallocation == Preallocation::kOff) co_return ok();
  const bool has_data_area =
      request.preallocation >= Preallocation::kFalloc && !request.header.has_data_file();
  if (has_data_area) {
    CO_RETURN_IF_ERROR(co_await place_data_area(writer, request));
    co_return ok();
  }
  CO_ASSIGN_OR_RETURN(const FileStat stat, writer.metadata().io.file().stat());
  Writer::PreallocateOptions options;
  // A device shows what it held, as in QEMU. In a file only space that was a refcount table before
  // holds anything; QEMU shows it to the guest.
  options.shows_old_bytes = !stat.extends_with_zeros;
  CO_ASSIGN_OR_RETURN(const std::vector<HostRun> ignored,
                      co_await writer.preallocate(0, request.header.virtual_size, options));
  static_cast<void>(ignored);
  co_return ok();
}

/// Everything but the header, which learns where things are. Placed as in an image that grows from
/// nothing to its size, since that is how QEMU makes one.
Task<Result<void>> lay_out(File& file, CreateRequest& request) {
  Header& header = request.header;
  const uint32_t l1_entries = std::exchange(header.l1_entries, 0);
  TableIo io(file, nullptr);
  L2Tables tables(header, io);
  CO_ASSIGN_OR_RETURN(const FileStat stat, file.stat());
  // Before the header is there nobody takes the file for an image: no order is to be kept.
  const Allocator::FileFacts facts{stat.length, stat.extends_with_zeros, false};
  Writer writer(header, io, tables, file, facts);
  CO_RETURN_IF_ERROR(co_await writer.start());
  const Metadata metadata = writer.metadata();
  CO_ASSIGN_OR_RETURN(const HostClusters l1, co_await write_new_l1(metadata, {}, l1_entries));
  header.l1_entries = l1_entries;
  header.l1_table_offset = HostOffset(l1.first << header.cluster_bits);
  tables.replace_l1(header.l1_table_offset, std::vector<L1Entry>(l1_entries));
  metadata.allocator.protected_clusters().add(l1, MetadataKind::kActiveL1);
  CO_RETURN_IF_ERROR(co_await preallocate(writer, request));
  CO_RETURN_IF_ERROR(co_await writer.close());
  co_return ok();
}

Task<Result<void>> create_data_file(const CreateImageOptions& options,
                                    const CreateRequest& request) {
  const Header& header = request.header;
  if (!header.has_data_file()) co_return ok();
  if (!options.create_data_file) {
    co_return Error(ENOTSUP, "External data files are not supported here");
  }
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<File> data_file,
                      options.create_data_file(*header.extensions.data_file));
  // Mapped clusters are there as a whole; the subclusters of extended entries are not yet mapped.
  const bool is_mapped = request.preallocation != Preallocation::kOff && !header.has_extended_l2();
  const uint64_t length =
      is_mapped ? round_up(header.virtual_size, header.cluster_size()) : header.virtual_size;
  CO_RETURN_IF_ERROR(co_await set_length(*data_file, length));
  co_return co_await fill_data(*data_file, 0, length, request.preallocation);
}

}  // namespace

Result<void> validate_create(const CreateImageOptions& options) {
  RETURN_IF_ERROR(plan_create(options));
  return ok();
}

Task<Result<void>> create(File& file, const CreateImageOptions& options) {
  CO_ASSIGN_OR_RETURN(CreateRequest request, plan_create(options));
  CO_RETURN_IF_ERROR(co_await create_data_file(options, request));
  CO_RETURN_IF_ERROR(co_await write_first_refcounts(file, request.header));
  const Result<void> laid_out = co_await lay_out(file, request);
  if (!laid_out && laid_out.error().code() == EFBIG) co_return image_too_large();
  if (!laid_out) co_return laid_out;
  // Last, so that a file whose creation failed half-way is not taken for an image.
  CO_ASSIGN_OR_RETURN(const std::vector<std::byte> cluster0, request.header.serialize());
  CO_RETURN_IF_ERROR(co_await file.write(0, cluster0));
  co_return ok();
}

}  // namespace imgconv::qcow2
