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
#include "formats/qcow2/create_layout.h"
#include "formats/qcow2/entries.h"
#include "formats/qcow2/on_disk.h"
#include "formats/qcow2/refcount_width.h"
#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

/// Bytes of one write while tables and zeros are put out.
constexpr uint64_t kWriteBytes = kMiB;

struct CreatePlan {
  CreateRequest request;
  CreateLayout layout;
  std::vector<std::byte> cluster0;
};

Result<CreatePlan> plan_create(const CreateImageOptions& options) {
  CreatePlan plan;
  ASSIGN_OR_RETURN(plan.request, parse_create_request(options));
  if (options.is_incomplete) plan.request.header.incompatible_features |= kIncompatCorrupt;
  plan.layout = plan_create_layout(plan.request);
  const Header& header = plan.request.header;
  if (header.refcount_table_clusters > kMaxRefcountTableBytes >> header.cluster_bits) {
    return image_too_large();
  }
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
  plan.cluster0 = std::move(*cluster0);
  return plan;
}

/// Sets the first `count` refcounts of a zeroed block to 1.
void fill_with_ones(std::span<std::byte> block, uint64_t count, unsigned refcount_order) {
  for (uint64_t i = 0; i < count; ++i) store_refcount(block.data(), i, refcount_order, 1);
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

Task<Result<void>> write_refcounts(File& file, const CreatePlan& plan) {
  const Header& header = plan.request.header;
  const CreateLayout& layout = plan.layout;
  std::vector<std::byte> table(layout.refcount_table_clusters << header.cluster_bits);
  std::vector<std::byte> block(header.cluster_size());
  fill_with_ones(block, header.refcount_block_entries(), header.refcount_order);
  for (uint64_t i = 0; i < layout.refcount_blocks; ++i) {
    const HostOffset place = layout.refcount_block(i).offset(header.cluster_bits);
    store_be(&table[i * kTableEntryBytes], RefcountTableEntry::block(place).raw());
    const uint64_t rest = layout.total_clusters - i * header.refcount_block_entries();
    if (rest < header.refcount_block_entries()) {
      std::ranges::fill(block, std::byte{0});
      fill_with_ones(block, rest, header.refcount_order);
    }
    CO_RETURN_IF_ERROR(co_await file.write(place.bytes(), block));
  }
  co_return co_await file.write(header.refcount_table_offset.bytes(), table);
}

Task<Result<void>> write_l1(File& file, const CreatePlan& plan) {
  const Header& header = plan.request.header;
  if (header.l1_entries == 0) co_return ok();
  std::vector<std::byte> l1(header.l1_entries * kTableEntryBytes);
  for (uint64_t i = 0; i < plan.layout.l2_tables; ++i) {
    const HostOffset table = plan.layout.l2_table(i).offset(header.cluster_bits);
    store_be(&l1[i * kTableEntryBytes], L1Entry::table(table, Copied::kYes).raw());
  }
  co_return co_await file.write(header.l1_table_offset.bytes(), l1);
}

/// The L2 tables of a preallocated image: every cluster of the disk is mapped. Subclusters stay
/// unallocated, as in QEMU.
Task<Result<void>> write_l2(File& file, const CreatePlan& plan) {
  const Header& header = plan.request.header;
  const CreateLayout& layout = plan.layout;
  const uint64_t guest_clusters = clusters_for(header.virtual_size, header.cluster_bits).value();
  std::vector<std::byte> table(header.cluster_size());
  for (uint64_t i = 0; i < layout.l2_tables; ++i) {
    std::ranges::fill(table, std::byte{0});
    const uint64_t first = i * layout.l2_entries;
    const uint64_t count = std::min(layout.l2_entries, guest_clusters - first);
    for (uint64_t j = 0; j < count; ++j) {
      const GuestCluster guest(first + j);
      // In an external data file the host offset is the guest's.
      const HostOffset place = header.has_data_file()
                                   ? HostOffset(guest.offset(header.cluster_bits).bytes())
                                   : layout.data(guest).offset(header.cluster_bits);
      store_be(&table[j * header.l2_entry_bytes()], L2Entry::data(place, Copied::kYes).raw());
    }
    CO_RETURN_IF_ERROR(
        co_await file.write(layout.l2_table(i).offset(header.cluster_bits).bytes(), table));
  }
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

Task<Result<void>> preallocate(File& file, const CreatePlan& plan) {
  const CreateLayout& layout = plan.layout;
  if (layout.data_clusters == 0) co_return ok();
  uint64_t length = layout.data_end_bytes();
  const Header& header = plan.request.header;
  if (!layout.has_contiguous_data) {
    // The file ends with the last subcluster of the disk.
    const uint64_t rest = header.virtual_size % header.cluster_size();
    if (rest != 0) length -= header.cluster_size() - round_up(rest, header.subcluster_size());
  }
  CO_RETURN_IF_ERROR(co_await set_length(file, length));
  if (layout.has_contiguous_data) {
    const HostOffset begin = layout.data(GuestCluster(0)).offset(layout.cluster_bits);
    CO_RETURN_IF_ERROR(co_await fill_data(file, begin.bytes(),
                                          layout.data_clusters << layout.cluster_bits,
                                          plan.request.preallocation));
  }
  co_return ok();
}

Task<Result<void>> create_data_file(const CreateImageOptions& options, const CreatePlan& plan) {
  const Header& header = plan.request.header;
  if (!header.has_data_file()) co_return ok();
  if (!options.create_data_file) {
    co_return Error(ENOTSUP, "External data files are not supported here");
  }
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<File> data_file,
                      options.create_data_file(*header.extensions.data_file));
  // Mapped clusters are there as a whole; the subclusters of extended entries are not yet mapped.
  const bool is_mapped =
      plan.request.preallocation != Preallocation::kOff && !header.has_extended_l2();
  const uint64_t length =
      is_mapped ? round_up(header.virtual_size, header.cluster_size()) : header.virtual_size;
  CO_RETURN_IF_ERROR(co_await set_length(*data_file, length));
  co_return co_await fill_data(*data_file, 0, length, plan.request.preallocation);
}

}  // namespace

Result<void> validate_create(const CreateImageOptions& options) {
  RETURN_IF_ERROR(plan_create(options));
  return ok();
}

Task<Result<void>> create(File& file, const CreateImageOptions& options) {
  CO_ASSIGN_OR_RETURN(const CreatePlan plan, plan_create(options));
  CO_RETURN_IF_ERROR(co_await create_data_file(options, plan));
  CO_RETURN_IF_ERROR(co_await write_refcounts(file, plan));
  CO_RETURN_IF_ERROR(co_await write_l1(file, plan));
  CO_RETURN_IF_ERROR(co_await preallocate(file, plan));
  CO_RETURN_IF_ERROR(co_await write_l2(file, plan));
  // Last, so that a file whose creation failed half-way is not taken for an image.
  co_return co_await file.write(0, plan.cluster0);
}

}  // namespace imgconv::qcow2
