#include "tests/support/qcow2_builder.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "tests/support/qcow2_assembly.h"

namespace imgconv::test {
namespace {

constexpr uint64_t kIncompatibleDataFile = uint64_t{1} << 2;
constexpr uint64_t kIncompatibleCompressionType = uint64_t{1} << 3;
constexpr uint64_t kIncompatibleExtendedL2 = uint64_t{1} << 4;
constexpr uint64_t kAutoclearRawDataFile = uint64_t{1} << 1;
constexpr uint32_t kExtensionBackingFormat = 0xE2792ACA;
constexpr uint32_t kExtensionDataFile = 0x44415441;

std::vector<std::byte> bytes_of(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> deflate_raw(const std::vector<std::byte>& input) {
  z_stream stream{};
  [[maybe_unused]] int status =
      deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY);
  assert(status == Z_OK);
  std::vector<std::byte> output(deflateBound(&stream, input.size()));
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(input.data()));
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = reinterpret_cast<Bytef*>(output.data());
  stream.avail_out = static_cast<uInt>(output.size());
  status = deflate(&stream, Z_FINISH);
  assert(status == Z_STREAM_END);
  output.resize(output.size() - stream.avail_out);
  deflateEnd(&stream);
  return output;
}

std::vector<std::byte> compress_zstd(const std::vector<std::byte>& input) {
  constexpr int kLevel = 3;
  std::vector<std::byte> output(ZSTD_compressBound(input.size()));
  const size_t length =
      ZSTD_compress(output.data(), output.size(), input.data(), input.size(), kLevel);
  assert(ZSTD_isError(length) == 0);
  output.resize(length);
  return output;
}

}  // namespace

Qcow2Builder& Qcow2Builder::version(uint32_t version) {
  version_ = version;
  return *this;
}

Qcow2Builder& Qcow2Builder::cluster_bits(uint32_t bits) {
  assert(allocations_.empty());
  cluster_bits_ = bits;
  return *this;
}

Qcow2Builder& Qcow2Builder::size(uint64_t bytes) {
  size_ = bytes;
  return *this;
}

Qcow2Builder& Qcow2Builder::refcount_order(uint32_t order) {
  refcount_order_ = order;
  return *this;
}

Qcow2Builder& Qcow2Builder::compression_type(uint8_t type) {
  compression_type_ = type;
  return type == 0 ? *this : incompatible(kIncompatibleCompressionType);
}

Qcow2Builder& Qcow2Builder::extended_l2() {
  has_extended_l2_ = true;
  return incompatible(kIncompatibleExtendedL2);
}

Qcow2Builder& Qcow2Builder::header_length(uint32_t length) {
  header_length_ = length;
  return *this;
}

Qcow2Builder& Qcow2Builder::incompatible(uint64_t bits) {
  incompatible_ |= bits;
  return *this;
}

Qcow2Builder& Qcow2Builder::compatible(uint64_t bits) {
  compatible_ |= bits;
  return *this;
}

Qcow2Builder& Qcow2Builder::autoclear(uint64_t bits) {
  autoclear_ |= bits;
  return *this;
}

Qcow2Builder& Qcow2Builder::backing(std::string name, std::string format) {
  backing_file_ = std::move(name);
  return format.empty() ? *this : extension(kExtensionBackingFormat, bytes_of(format));
}

Qcow2Builder& Qcow2Builder::data_file(std::string name, bool is_raw) {
  has_data_file_ = true;
  if (is_raw) autoclear(kAutoclearRawDataFile);
  if (!name.empty()) extension(kExtensionDataFile, bytes_of(name));
  return incompatible(kIncompatibleDataFile);
}

Qcow2Builder& Qcow2Builder::extension(uint32_t type, std::vector<std::byte> data) {
  extensions_.emplace_back(type, std::move(data));
  return *this;
}

Qcow2Builder& Qcow2Builder::feature_name(uint8_t kind, uint8_t bit, std::string name) {
  constexpr size_t kNameLength = 46;
  std::vector<std::byte> bytes = bytes_of(name);
  bytes.resize(kNameLength);
  feature_names_.push_back(std::byte{kind});
  feature_names_.push_back(std::byte{bit});
  feature_names_.insert(feature_names_.end(), bytes.begin(), bytes.end());
  return *this;
}

Qcow2Builder& Qcow2Builder::l1_entries(uint32_t entries) {
  l1_entries_ = entries;
  return *this;
}

size_t Qcow2Builder::allocate(std::vector<std::byte> bytes, bool is_packed) {
  allocations_.push_back({std::move(bytes), is_packed, std::exchange(pending_skip_clusters_, 0)});
  return allocations_.size() - 1;
}

std::vector<std::byte> Qcow2Builder::padded(std::span<const std::byte> bytes) const {
  assert(bytes.size() <= cluster_size());
  std::vector<std::byte> cluster(bytes.begin(), bytes.end());
  cluster.resize(cluster_size());
  return cluster;
}

Qcow2Builder& Qcow2Builder::data(uint64_t guest_cluster, std::span<const std::byte> bytes) {
  guest_[guest_cluster] = {EntryKind::kData, allocate(padded(bytes), false), std::nullopt};
  return *this;
}

Qcow2Builder& Qcow2Builder::compressed(uint64_t guest_cluster, std::span<const std::byte> bytes,
                                       BuilderCodec codec) {
  const std::vector<std::byte> cluster = padded(bytes);
  return compressed_stream(guest_cluster, codec == BuilderCodec::kDeflate ? deflate_raw(cluster)
                                                                          : compress_zstd(cluster));
}

Qcow2Builder& Qcow2Builder::compressed_stream(uint64_t guest_cluster,
                                              std::span<const std::byte> stream) {
  const std::vector<std::byte> bytes(stream.begin(), stream.end());
  guest_[guest_cluster] = {EntryKind::kCompressed, allocate(bytes, true), std::nullopt};
  return *this;
}

Qcow2Builder& Qcow2Builder::zero_plain(uint64_t guest_cluster) {
  guest_[guest_cluster] = {EntryKind::kZeroPlain, 0, std::nullopt};
  return *this;
}

Qcow2Builder& Qcow2Builder::zero_alloc(uint64_t guest_cluster) {
  std::vector<std::byte> rubbish(cluster_size(), std::byte{0x55});
  guest_[guest_cluster] = {EntryKind::kZeroAlloc, allocate(std::move(rubbish), false),
                           std::nullopt};
  return *this;
}

Qcow2Builder& Qcow2Builder::subclusters(uint64_t guest_cluster, uint64_t bitmap) {
  const Entry without_host{EntryKind::kBitmapOnly, 0, std::nullopt};
  guest_.try_emplace(guest_cluster, without_host).first->second.bitmap = bitmap;
  return *this;
}

Qcow2Builder& Qcow2Builder::unallocated(uint64_t guest_cluster) {
  guest_.erase(guest_cluster);
  return *this;
}

Qcow2Builder& Qcow2Builder::skip_host_clusters(uint64_t count) {
  pending_skip_clusters_ += count;
  return *this;
}

Qcow2Builder& Qcow2Builder::snapshot(BuilderSnapshot snapshot) {
  snapshots_.push_back({std::move(snapshot), guest_});
  return *this;
}

Qcow2Builder& Qcow2Builder::l2(uint64_t guest_cluster, uint64_t entry) {
  l2_lies_[guest_cluster] = entry;
  return *this;
}

Qcow2Builder& Qcow2Builder::l1(uint64_t l1_index, uint64_t entry) {
  l1_lies_[l1_index] = entry;
  return *this;
}

Qcow2Builder& Qcow2Builder::set_refcount(uint64_t host_cluster, uint64_t value) {
  refcount_lies_[host_cluster] = value;
  return *this;
}

Qcow2Builder& Qcow2Builder::file_length(uint64_t length) {
  file_length_ = length;
  return *this;
}

Qcow2Builder& Qcow2Builder::poke(uint64_t host_offset, std::vector<std::byte> bytes) {
  pokes_.emplace_back(host_offset, std::move(bytes));
  return *this;
}

Qcow2Builder& Qcow2Builder::poke_be16(uint64_t host_offset, uint16_t value) {
  return poke(host_offset, big_endian(value, 2));
}

Qcow2Builder& Qcow2Builder::poke_be32(uint64_t host_offset, uint32_t value) {
  return poke(host_offset, big_endian(value, 4));
}

Qcow2Builder& Qcow2Builder::poke_be64(uint64_t host_offset, uint64_t value) {
  return poke(host_offset, big_endian(value, 8));
}

BuiltQcow2 Qcow2Builder::build() const { return Qcow2Assembly(*this).assemble(); }

}  // namespace imgconv::test
