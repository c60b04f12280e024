#include "cmd/image_facts.h"

#include <ranges>
#include <string_view>
#include <utility>

#include "engine/image_name.h"
#include "engine/open_image.h"
#include "loop/extent_size_hint.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {

namespace {

/// The driver that the bytes come from.
const char* protocol_of(std::string_view name, bool is_block_device) {
  if (name == "null-co://") return "null-co";
  if (name == "null-aio://") return "null-aio";
  return is_block_device ? "host_device" : "file";
}

}  // namespace

Result<ImageFacts> gather_facts(const Layer& layer) {
  File& file = layer.image->file();
  ASSIGN_OR_RETURN(const FileStat stat, file.stat());
  ImageFacts facts;
  facts.image = layer.image->info();
  facts.file.filename = file.name();
  facts.file.protocol = protocol_of(file.name(), stat.is_block_device);
  facts.file.length = round_up(stat.length, kSectorSize);
  facts.file.allocated = stat.allocated;
  facts.file.extent_size_hint = extent_size_hint(file.blocking().descriptor());
  if (!layer.nodes_below.empty()) {
    const NodeBelow& bottom = layer.nodes_below.front();
    facts.file.protocol = protocol_of(file.name(), bottom.is_block_device);
    facts.file.length = round_up(bottom.length, kSectorSize);
    for (const NodeBelow& node : layer.nodes_below | std::views::drop(1)) {
      facts.parts.push_back({node.name, round_up(node.length, kSectorSize)});
    }
  }
  facts.filename = layer.name;
  facts.is_bare_file =
      layer.format == "file" || layer.format == "host_device" || is_null_driver(layer.format);
  if (!facts.image.backing_file.empty()) {
    Result<std::string> full = backing_name_of(layer);
    if (full) facts.full_backing_filename = std::move(*full);
  }
  return facts;
}

}  // namespace imgconv
