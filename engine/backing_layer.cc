#include "engine/backing_layer.h"

#include "engine/image_name.h"
#include "engine/open_image.h"
#include "loop/result.h"

namespace imgconv {
namespace {

bool is_same_image(Storage& storage, const std::string& a, const std::string& b) {
  if (a == b) return true;
  const Result<std::string> path_a = path_of_name(a);
  const Result<std::string> path_b = path_of_name(b);
  return path_a && path_b && storage.is_same_file(*path_a, *path_b);
}

}  // namespace

std::optional<unsigned> find_layer_of_file(Storage& storage, const ImageChain& chain,
                                           const std::string& name) {
  for (unsigned depth = 1; depth < chain.layers().size(); ++depth) {
    if (is_same_image(storage, name, chain.layers()[depth].name)) return depth;
  }
  return std::nullopt;
}

std::optional<unsigned> find_backing_layer(Storage& storage, const ImageChain& chain,
                                           const std::string& name) {
  for (unsigned depth = 1; depth < chain.layers().size(); ++depth) {
    const Result<std::string> full = resolve_backing_name(chain.layers()[depth - 1].name, name);
    if (full && is_same_image(storage, *full, chain.layers()[depth].name)) return depth;
  }
  return std::nullopt;
}

}  // namespace imgconv
