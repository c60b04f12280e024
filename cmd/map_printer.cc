#include "cmd/map_printer.h"

#include <fmt/format.h>
#include <fmt/printf.h>

#include <cerrno>

#include "cmd/output.h"
#include "loop/try.h"

namespace imgconv {

MapEntry to_map_entry(const ChainExtent& chain_extent) {
  const Extent& extent = chain_extent.extent;
  MapEntry entry;
  entry.start = extent.guest_offset;
  entry.length = extent.length;
  entry.depth = chain_extent.depth;
  entry.is_present = chain_extent.is_present;
  entry.is_compressed = extent.kind == ExtentKind::kCompressed;
  entry.is_data = entry.is_compressed || extent.kind == ExtentKind::kData;
  entry.is_zero = !entry.is_data || extent.is_zero;
  if (extent.has_host_offset && !entry.is_compressed) {
    entry.host_offset = extent.host_offset;
    entry.file = extent.file;
  }
  return entry;
}

bool can_merge(const MapEntry& entry, const MapEntry& next) {
  if (entry.depth != next.depth || entry.is_present != next.is_present ||
      entry.is_zero != next.is_zero || entry.is_data != next.is_data ||
      entry.is_compressed != next.is_compressed || entry.file != next.file ||
      entry.host_offset.has_value() != next.host_offset.has_value()) {
    return false;
  }
  return !entry.host_offset || *entry.host_offset + entry.length == *next.host_offset;
}

MapPrinter::MapPrinter(OutputFormat format, uint64_t start_offset, const ImageChain& chain)
    : format_(format), chain_(chain) {
  current_.start = start_offset;
  if (format_ == OutputFormat::kHuman) {
    print_out("{:<16}{:<16}{:<16}{}\n", "Offset", "Length", "Mapped to", "File");
  } else {
    print_out("[");
  }
}

Result<void> MapPrinter::add(const MapEntry& entry) {
  if (current_.length != 0 && can_merge(current_, entry)) {
    current_.length += entry.length;
    return ok();
  }
  if (current_.length != 0) RETURN_IF_ERROR(print_current(/*is_last=*/false));
  current_ = entry;
  return ok();
}

Result<void> MapPrinter::finish() {
  RETURN_IF_ERROR(print_current(/*is_last=*/true));
  if (format_ == OutputFormat::kJson) print_out("]\n");
  return ok();
}

const std::string& MapPrinter::file_name(const MapEntry& entry) const {
  const Layer& layer = chain_.layers()[entry.depth];
  const bool is_image_file = entry.file == &layer.image->file();
  if (!is_image_file || layer.nodes_below.empty()) return entry.file->name();
  return layer.nodes_below.back().name;
}

Result<void> MapPrinter::print_current(bool is_last) {
  const MapEntry& entry = current_;
  if (format_ == OutputFormat::kJson) {
    print_out(
        "{{ \"start\": {}, \"length\": {}, \"depth\": {}, \"present\": {}, \"zero\": {}, "
        "\"data\": {}, \"compressed\": {}",
        entry.start, entry.length, entry.depth, entry.is_present, entry.is_zero, entry.is_data,
        entry.is_compressed);
    if (entry.host_offset) print_out(", \"offset\": {}", *entry.host_offset);
    print_out("}}{}", is_last ? "" : ",\n");
    return ok();
  }
  if (!entry.is_data || entry.is_zero) return ok();
  if (!entry.host_offset) {
    return Error(EINVAL, "File contains external, encrypted or compressed clusters.");
  }
  // %#x, unlike fmt's {:#x}, prints zero as "0".
  print_text(fmt::sprintf("%#-16x%#-16x%#-16x%s\n", entry.start, entry.length, *entry.host_offset,
                          file_name(entry)));
  return ok();
}

}  // namespace imgconv
