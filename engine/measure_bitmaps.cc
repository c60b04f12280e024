#include "engine/measure_bitmaps.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "loop/units.h"

namespace imgconv {
namespace {

constexpr uint64_t kDefaultClusterSize = 64 * kKiB;
constexpr uint64_t kTableEntrySize = 8;
/// A directory entry without the name, and what entries are padded to (QCOW2.md, bitmaps).
constexpr uint64_t kDirectoryEntrySize = 24;
constexpr uint64_t kDirectoryAlignment = 8;

const InfoValue* find_member(const InfoValue& value, std::string_view name) {
  const auto* object = std::get_if<InfoValue::Object>(&value.value);
  if (object == nullptr) return nullptr;
  const auto found =
      std::find_if(object->begin(), object->end(),
                   [name](const InfoValue::Member& member) { return member.first == name; });
  return found == object->end() ? nullptr : &found->second;
}

std::string text_of(const InfoValue* value) {
  const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(&value->value);
  return text == nullptr ? "" : *text;
}

uint64_t number_of(const InfoValue* value) {
  if (value == nullptr) return 0;
  if (const auto* number = std::get_if<uint64_t>(&value->value)) return *number;
  if (const auto* number = std::get_if<int64_t>(&value->value)) {
    return static_cast<uint64_t>(*number);
  }
  return 0;
}

/// The bitmap with all its clusters, and its table.
uint64_t bitmap_size(uint64_t virtual_size, uint64_t granularity, uint64_t cluster_size) {
  const uint64_t bytes = div_round_up(div_round_up(virtual_size, granularity), 8);
  const uint64_t clusters = div_round_up(bytes, cluster_size);
  return clusters * cluster_size + round_up(clusters * kTableEntrySize, cluster_size);
}

}  // namespace

std::optional<uint64_t> measure_bitmaps(const ImageInfo& source, const BlockDriver& target,
                                        const OptionValues& target_options) {
  if (!target.supports_bitmaps(target_options)) return std::nullopt;
  if (source.format != "qcow2" || !source.specific) return std::nullopt;
  if (text_of(find_member(*source.specific, "compat")) != "1.1") return std::nullopt;

  const uint64_t cluster_size = target_options.number("cluster_size").value_or(kDefaultClusterSize);
  uint64_t size = 0;
  uint64_t directory_size = 0;
  const InfoValue* const member = find_member(*source.specific, "bitmaps");
  const auto* bitmaps = member == nullptr ? nullptr : std::get_if<InfoValue::Array>(&member->value);
  if (bitmaps == nullptr) return 0;
  for (const InfoValue& bitmap : *bitmaps) {
    const uint64_t granularity = number_of(find_member(bitmap, "granularity"));
    if (granularity == 0) continue;
    size += bitmap_size(source.virtual_size, granularity, cluster_size);
    const uint64_t name_length = text_of(find_member(bitmap, "name")).size();
    directory_size += round_up(kDirectoryEntrySize + name_length, kDirectoryAlignment);
  }
  return size + round_up(directory_size, cluster_size);
}

}  // namespace imgconv
