// Writer, part 2: what stands around the written part of a cluster that got new space.
#include <algorithm>
#include <utility>

#include "formats/codec.h"
#include "formats/qcow2/corruption.h"
#include "formats/qcow2/writer.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

namespace {

// Ours: 16 MiB of ranges. Holes beyond that number stay, which costs nothing but likeness.
constexpr size_t kMaxHoles = kMiB;

}  // namespace

Task<Result<void>> Writer::fill_around(const ClusterPart& part, L2Entry old, uint64_t host_offset,
                                       bool reads_as_zeros) {
  uint64_t begin = 0;
  uint64_t end = cluster_size();
  const bool has_old_data = old.is_compressed() || data_subclusters(old) != 0;
  if (!has_old_data) {
    // Subclusters that nobody touches keep saying in their bits what they hold.
    begin = round_down(part.begin, header_.subcluster_size());
    end = round_up(part.end, header_.subcluster_size());
  }
  note_data_end(host_offset + end);
  CO_RETURN_IF_ERROR(
      co_await fill(part.guest_cluster, begin, part.begin, old, host_offset, reads_as_zeros));
  CO_RETURN_IF_ERROR(
      co_await fill(part.guest_cluster, part.end, end, old, host_offset, reads_as_zeros));
  co_return ok();
}

Task<Result<void>> Writer::fill_owned(const ClusterPart& part, uint32_t written, L2Entry entry,
                                      uint64_t host_offset) {
  const uint64_t size = header_.subcluster_size();
  note_data_end(host_offset + round_up(part.end, size));
  const bool is_head_written = (written & touched(part.begin, part.begin + 1)) != 0;
  if (!is_head_written) {
    CO_RETURN_IF_ERROR(co_await fill(part.guest_cluster, round_down(part.begin, size), part.begin,
                                     entry, host_offset, false));
  }
  const bool is_tail_written = (written & touched(part.end - 1, part.end)) != 0;
  if (!is_tail_written) {
    CO_RETURN_IF_ERROR(co_await fill(part.guest_cluster, part.end, round_up(part.end, size), entry,
                                     host_offset, false));
  }
  co_return ok();
}

Writer::Below Writer::below(L2Entry old, uint64_t offset_in_cluster) const {
  const auto subcluster = header_.has_extended_l2()
                              ? static_cast<unsigned>(offset_in_cluster / header_.subcluster_size())
                              : 0;
  switch (old.subcluster_type(format_, subcluster)) {
    case SubclusterType::kNormal:
    case SubclusterType::kCompressed:
      return Below::kOldCluster;
    case SubclusterType::kZeroPlain:
    case SubclusterType::kZeroAllocated:
      return Below::kZeros;
    case SubclusterType::kUnallocated:
    case SubclusterType::kUnallocatedAllocated:
    case SubclusterType::kInvalid:
      break;
  }
  return has_backing() && backing_reader_ ? Below::kBacking : Below::kZeros;
}

uint64_t Writer::end_of_source(L2Entry old, uint64_t begin, uint64_t end) const {
  const uint64_t size = header_.subcluster_size();
  const Below source = below(old, begin);
  uint64_t stop = begin;
  do {
    stop = std::min(end, round_down(stop, size) + size);
  } while (stop < end && below(old, stop) == source);
  return stop;
}

void Writer::note_hole(uint64_t host_offset, uint64_t length) {
  note_data_end(host_offset + length);
  if (!holes_.empty() && holes_.back().host_offset + holes_.back().length == host_offset) {
    holes_.back().length += length;
  } else if (holes_.size() < kMaxHoles) {
    holes_.push_back({host_offset, length});
  }
}

Task<Result<void>> Writer::allocate_holes() {
  if (holes_.empty()) co_return ok();
  const std::vector<HostRange> holes = std::exchange(holes_, {});
  BlockingFile& file = data_file_.blocking();
  auto allocate_all = [&holes, &file]() -> Result<void> {
    for (const HostRange& hole : holes) {
      // What does not fit now would not have fitted as zeros, either.
      RETURN_IF_ERROR(file.allocate(hole.host_offset, hole.length));
    }
    return ok();
  };
  CO_RETURN_IF_ERROR(co_await io_.run(allocate_all));
  co_return ok();
}

Task<Result<void>> Writer::fill(uint64_t guest_cluster, uint64_t begin, uint64_t end, L2Entry old,
                                uint64_t host_offset, bool reads_as_zeros) {
  while (begin < end) {
    const Below source = below(old, begin);
    const uint64_t stop = end_of_source(old, begin, end);
    if (source == Below::kZeros && reads_as_zeros) {
      note_hole(host_offset + begin, stop - begin);
    } else if (source == Below::kZeros) {
      CO_RETURN_IF_ERROR(
          co_await data_file_.write_zeroes(host_offset + begin, stop - begin, ZeroFlags()));
    } else {
      fill_buffer_.resize(cluster_size());
      const std::span<std::byte> bytes = std::span(fill_buffer_).subspan(begin, stop - begin);
      if (source == Below::kOldCluster) {
        CO_RETURN_IF_ERROR(co_await read_old(old, begin, bytes));
      } else {
        const uint64_t guest_offset = (guest_cluster << header_.cluster_bits) + begin;
        CO_RETURN_IF_ERROR(co_await read_backing(guest_offset, bytes));
      }
      CO_RETURN_IF_ERROR(co_await data_file_.write(host_offset + begin, bytes));
    }
    begin = stop;
  }
  co_return ok();
}

Task<Result<void>> Writer::read_old(L2Entry old, uint64_t offset_in_cluster,
                                    std::span<std::byte> bytes) {
  if (!old.is_compressed()) {
    if (!is_aligned(old.host_offset().bytes(), cluster_size())) {
      co_return corruption(
          fmt::format("Cluster allocation offset {} unaligned", hex(old.host_offset().bytes())));
    }
    const uint64_t host_offset = old.host_offset().bytes() + offset_in_cluster;
    CO_ASSIGN_OR_RETURN(const size_t filled, co_await data_file_.read(host_offset, bytes));
    std::fill(bytes.begin() + static_cast<ptrdiff_t>(filled), bytes.end(), std::byte{0});
    co_return ok();
  }
  const CompressedLocation location = old.compressed_location(header_.cluster_bits);
  std::vector<std::byte> stream(location.length);
  CO_RETURN_IF_ERROR(co_await io_.read_one(location.offset.bytes(), stream));
  // The whole cluster is decoded, `bytes` is its place in the buffer.
  const std::span<std::byte> cluster(fill_buffer_);
  const Codec codec = header_.compression;
  auto decode = [&stream, cluster, codec] {
    return thread_decompressor(codec).decompress(stream, cluster);
  };
  CO_RETURN_IF_ERROR(co_await io_.run(decode));
  co_return ok();
}

Task<Result<void>> Writer::read_backing(uint64_t guest_offset, std::span<std::byte> bytes) {
  // The last cluster may reach behind the end of the disk, where nobody may be asked.
  const uint64_t disk_end = header_.guest_size();
  const uint64_t available = guest_offset < disk_end ? disk_end - guest_offset : 0;
  const std::span<std::byte> inside = bytes.first(std::min<uint64_t>(available, bytes.size()));
  std::fill(bytes.begin() + static_cast<ptrdiff_t>(inside.size()), bytes.end(), std::byte{0});
  if (inside.empty()) co_return ok();
  CO_RETURN_IF_ERROR(co_await backing_reader_(guest_offset, inside));
  co_return ok();
}

}  // namespace imgconv::qcow2
