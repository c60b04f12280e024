#include "cmd/image_facts.h"

#include <ranges>
#include <utility>

#include "engine/open_image.h"
#include "loop/extent_size_hint.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {

Result<ImageFacts> gather_facts(const Layer& layer) {
  File& file = layer.image->file();
  ASSIGN_OR_RETURN(const FileStat stat, file.stat());
  ImageFacts facts;
  facts.image = layer.image->info();
  facts.file.filename = file.name();
  facts.file.protocol = stat.is_block_device ? "host_device" : "file";
  facts.file.length = round_up(stat.length, kSectorSize);
  facts.file.allocated = stat.allocated;
  facts.file.extent_size_hint = extent_size_hint(file.blocking().descriptor());
  if (!layer.nodes_below.empty()) {
    const NodeBelow& bottom = layer.nodes_below.front();
    facts.file.protocol = bottom.is_block_device ? "host_device" : "file";
    facts.file.length = round_up(bottom.length, kSectorSize);
    for (const NodeBelow& node : layer.nodes_below | std::views::drop(1)) {
      facts.parts.push_back({node.name, round_up(node.length, kSectorSize)});
    }
  }
  facts.filename = layer.name;
  facts.is_bare_file = layer.format == "file" || layer.format == "host_device";
  if (!facts.image.backing_file.empty()) {
    Result<std::string> full = backing_name_of(layer);
    if (full) facts.full_backing_filename = std::move(*full);
  }
  return facts;
}

}  // namespace imgconv
