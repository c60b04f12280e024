#include "tests/fuzz/qcow2_mutator.h"

#include <array>
#include <random>
#include <vector>

namespace imgconv::fuzz {
namespace {

struct Field {
  uint64_t offset = 0;
  unsigned bytes = 8;
};

constexpr std::array<Field, 18> kHeaderFields = {{{4, 4},
                                                  {8, 8},
                                                  {16, 4},
                                                  {20, 4},
                                                  {24, 8},
                                                  {32, 4},
                                                  {36, 4},
                                                  {40, 8},
                                                  {48, 8},
                                                  {56, 4},
                                                  {60, 4},
                                                  {64, 8},
                                                  {72, 8},
                                                  {80, 8},
                                                  {88, 8},
                                                  {96, 4},
                                                  {100, 4},
                                                  {104, 1}}};
constexpr std::array<uint64_t, 20> kValues = {0,
                                              1,
                                              2,
                                              3,
                                              9,
                                              16,
                                              21,
                                              104,
                                              512,
                                              65535,
                                              65536,
                                              0x00400000,
                                              uint64_t{1} << 31,
                                              0xffffffff,
                                              uint64_t{1} << 55,
                                              (uint64_t{1} << 56) - 512,
                                              uint64_t{1} << 62,
                                              uint64_t{1} << 63,
                                              ~uint64_t{511},
                                              ~uint64_t{0}};
constexpr uint64_t kOffsetMask = 0x00fffffffffffe00;
constexpr uint32_t kBitmapsExtension = 0x23852875;
constexpr uint64_t kCopied = uint64_t{1} << 63;
constexpr uint64_t kCompressed = uint64_t{1} << 62;

class Mutation {
 public:
  Mutation(std::span<uint8_t> image, uint32_t seed) : image_(image), random_(seed) {}

  void apply() {
    const unsigned changes = 1 + below(3);
    for (unsigned n = 0; n < changes; ++n) {
      const Field field = pick_field();
      put(field, pick_value(get(field)));
    }
  }

 private:
  // Takes the low bits: the distributions of the library differ between its versions.
  unsigned below(unsigned bound) { return static_cast<unsigned>(random_() % bound); }

  uint64_t get(Field field) const {
    if (field.offset > image_.size() || field.bytes > image_.size() - field.offset) return 0;
    uint64_t value = 0;
    for (unsigned n = 0; n < field.bytes; ++n) value = value << 8 | image_[field.offset + n];
    return value;
  }

  void put(Field field, uint64_t value) {
    if (field.offset > image_.size() || field.bytes > image_.size() - field.offset) return;
    for (unsigned n = field.bytes; n-- > 0; value >>= 8) {
      image_[field.offset + n] = static_cast<uint8_t>(value);
    }
  }

  uint64_t cluster_size() const {
    const uint64_t bits = get({20, 4});
    return bits >= 9 && bits <= 21 ? uint64_t{1} << bits : 512;
  }

  /// An entry of a table of which `used` bytes are likely to matter.
  Field entry_of(uint64_t table, uint64_t used) {
    return {table + 8 * below(static_cast<unsigned>(used / 8)), 8};
  }

  Field pick_l2_entry() {
    const uint64_t l1_entries = get({36, 4}) % 64 + 1;
    const Field l1 = {get({40, 8}) + 8 * below(static_cast<unsigned>(l1_entries)), 8};
    return entry_of(get(l1) & kOffsetMask, below(2) == 0 ? 64 : cluster_size());
  }

  Field pick_extension_field() {
    const uint64_t begin = get({4, 4}) == 3 ? get({100, 4}) : 72;
    for (uint64_t at = begin; at < begin + 256; at += 8) {
      if (get({at, 4}) != kBitmapsExtension || below(2) == 0) continue;
      const uint64_t directory = get({at + 24, 8});
      const Field table = entry_of(get({directory, 8}), 64);
      return below(2) == 0 ? table : Field{directory + 4 * below(8), 4};
    }
    return {begin + 4 * below(16), 4};
  }

  Field pick_field() {
    switch (below(8)) {
      case 0:
      case 1:
        return kHeaderFields[below(kHeaderFields.size())];
      case 2:
        return entry_of(get({40, 8}), 64);
      case 3:
      case 4:
        return pick_l2_entry();
      case 5:
        return below(2) == 0 ? entry_of(get({48, 8}), 64)
                             : entry_of(get({get({48, 8}), 8}) & kOffsetMask, 64);
      case 6:
        return {get({64, 8}) + 4 * below(24), 4};
      default:
        return pick_extension_field();
    }
  }

  uint64_t pick_value(uint64_t old) {
    const uint64_t cluster = below(static_cast<unsigned>(image_.size() / cluster_size() + 2));
    const uint64_t offset = cluster * cluster_size();
    switch (below(7)) {
      case 0:
        return kValues[below(kValues.size())];
      case 1:
        return old ^ uint64_t { 1 } << below(64);
      case 2:
        return old + 1 - 2 * below(2);
      case 3:
        return offset;
      case 4:
        return offset | kCopied;
      case 5:
        return offset | kCompressed | static_cast<uint64_t>(below(16)) << 58;
      default:
        return static_cast<uint64_t>(random_()) << 32 | random_();
    }
  }

  const std::span<uint8_t> image_;
  std::mt19937 random_;
};

}  // namespace

void mutate_qcow2(std::span<uint8_t> image, uint32_t seed) { Mutation(image, seed).apply(); }

}  // namespace imgconv::fuzz
