#include "tests/support/qcow2_bitmaps.h"

#include <catch2/catch.hpp>
#include <utility>

namespace imgconv::test {

namespace {

constexpr uint32_t kBitmapsExtension = 0x23852875;
constexpr uint64_t kAutoclearBitmaps = 1;

void put(std::vector<std::byte>& bytes, uint64_t at, uint64_t value, unsigned width) {
  for (unsigned i = 0; i < width; ++i) {
    bytes[at + i] = static_cast<std::byte>(value >> (8 * (width - 1 - i)));
  }
}

uint64_t get(std::span<const std::byte> bytes, uint64_t at, unsigned width) {
  REQUIRE(at + width <= bytes.size());
  uint64_t value = 0;
  for (unsigned i = 0; i < width; ++i) {
    value = value << 8 | std::to_integer<uint64_t>(bytes[at + i]);
  }
  return value;
}

uint64_t padded(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

/// Hands out clusters behind the end of the builder's image.
class Tail {
 public:
  explicit Tail(Qcow2Builder& builder)
      : builder_(builder), end_(padded(builder.bytes().size(), builder.cluster_size())) {}

  uint64_t add(std::vector<std::byte> bytes) {
    const uint64_t size = builder_.cluster_size();
    bytes.resize(padded(bytes.size(), size));
    const uint64_t at = std::exchange(end_, end_ + bytes.size());
    for (uint64_t offset = at; offset < end_; offset += size) {
      builder_.set_refcount(offset / size, 1);
    }
    pieces_.emplace_back(at, std::move(bytes));
    return at;
  }
  void finish() {
    builder_.file_length(end_);
    for (auto& [at, bytes] : pieces_) builder_.poke(at, std::move(bytes));
  }

 private:
  Qcow2Builder& builder_;
  uint64_t end_;
  std::vector<std::pair<uint64_t, std::vector<std::byte>>> pieces_;
};

StoredBitmap read_entry(std::span<const std::byte> image, uint64_t at) {
  StoredBitmap bitmap;
  const uint64_t table = get(image, at, 8);
  const uint64_t entries = get(image, at + 8, 4);
  bitmap.flags = static_cast<uint32_t>(get(image, at + 12, 4));
  bitmap.granularity_bits = static_cast<unsigned>(get(image, at + 17, 1));
  bitmap.name.assign(reinterpret_cast<const char*>(image.data()) + at + 24, get(image, at + 18, 2));
  if ((bitmap.flags & kBitmapInUse) != 0) return bitmap;
  const uint64_t cluster_size = uint64_t{1} << get(image, 20, 4);
  const uint64_t bits =
      (get(image, 24, 8) + (uint64_t{1} << bitmap.granularity_bits) - 1) >> bitmap.granularity_bits;
  for (uint64_t bit = 0; bit < bits; ++bit) {
    const uint64_t cluster = bit / 8 / cluster_size;
    REQUIRE(cluster < entries);
    const uint64_t entry = get(image, table + 8 * cluster, 8);
    const uint64_t byte = entry > 1 ? get(image, entry + bit / 8 % cluster_size, 1) : entry * 0xff;
    if ((byte >> bit % 8 & 1) != 0) bitmap.dirty.push_back(bit);
  }
  return bitmap;
}

}  // namespace

void add_bitmaps(Qcow2Builder& builder, const std::vector<BitmapSpec>& bitmaps) {
  Tail tail(builder);
  std::vector<std::byte> directory;
  for (const BitmapSpec& bitmap : bitmaps) {
    std::vector<std::byte> table(8 * bitmap.clusters.size());
    for (size_t i = 0; i < bitmap.clusters.size(); ++i) {
      const BitmapClusterSpec& cluster = bitmap.clusters[i];
      put(table, 8 * i, cluster.bytes.empty() ? cluster.raw_entry : tail.add(cluster.bytes), 8);
    }
    const uint64_t at = directory.size();
    directory.resize(padded(at + 24 + bitmap.name.size(), 8));
    put(directory, at, tail.add(table), 8);
    put(directory, at + 8, bitmap.clusters.size(), 4);
    put(directory, at + 12, bitmap.flags, 4);
    put(directory, at + 16, 1, 1);
    put(directory, at + 17, bitmap.granularity_bits, 1);
    put(directory, at + 18, bitmap.name.size(), 2);
    for (size_t i = 0; i < bitmap.name.size(); ++i) {
      directory[at + 24 + i] = static_cast<std::byte>(bitmap.name[i]);
    }
  }
  std::vector<std::byte> extension(24);
  put(extension, 0, bitmaps.size(), 4);
  put(extension, 8, directory.size(), 8);
  put(extension, 16, tail.add(directory), 8);
  builder.extension(kBitmapsExtension, extension).autoclear(kAutoclearBitmaps);
  tail.finish();
}

std::optional<std::vector<StoredBitmap>> read_bitmaps(std::span<const std::byte> image) {
  if ((get(image, 88, 8) & kAutoclearBitmaps) == 0) return std::nullopt;
  for (uint64_t at = get(image, 100, 4); get(image, at, 4) != 0;
       at += 8 + padded(get(image, at + 4, 4), 8)) {
    if (get(image, at, 4) != kBitmapsExtension) continue;
    const uint64_t count = get(image, at + 8, 4);
    const uint64_t end = get(image, at + 24, 8) + get(image, at + 16, 8);
    std::vector<StoredBitmap> bitmaps;
    for (uint64_t entry = get(image, at + 24, 8); entry < end;) {
      bitmaps.push_back(read_entry(image, entry));
      entry += padded(24 + bitmaps.back().name.size(), 8);
    }
    REQUIRE(bitmaps.size() == count);
    return bitmaps;
  }
  return std::nullopt;
}

}  // namespace imgconv::test
