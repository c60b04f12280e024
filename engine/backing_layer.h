// backing_layer: which layer of an open chain does a user mean by a name?
//
// Names are the same when they are the same file (device and inode), whatever they are called by.
// Looks at files' identities only, opens nothing. Loop thread only.
#pragma once

#include <optional>
#include <string>

#include "engine/image_chain.h"
#include "loop/storage.h"

namespace imgconv {

/// The depth of the layer below the top that is this file; `name` counts from the current
/// directory.
std::optional<unsigned> find_layer_of_file(Storage& storage, const ImageChain& chain,
                                           const std::string& name);

/// The depth of the layer below the top that some overlay of the chain may call `name`: relative
/// names count from the overlay's own directory.
std::optional<unsigned> find_backing_layer(Storage& storage, const ImageChain& chain,
                                           const std::string& name);

}  // namespace imgconv
