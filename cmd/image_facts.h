// ImageFacts: what `info` tells of one image, gathered from the open image and its file, so that
// both output forms print the same facts. A value; gathering runs on the loop thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/image_chain.h"
#include "formats/image.h"
#include "loop/result.h"

namespace imgconv {

/// The file below a format: `info` shows it as the child node "file".
struct FileFacts {
  std::string filename;
  /// "file" or "host_device".
  const char* protocol = "file";
  /// Rounded up to 512.
  uint64_t length = 0;
  /// Bytes on disk.
  uint64_t allocated = 0;
  /// Bytes; 0: none.
  uint32_t extent_size_hint = 0;
};

/// A part of the file that is shown to the format as a file: a child node of the driver "raw".
struct PartFacts {
  std::string filename;
  uint64_t length = 0;
};

struct ImageFacts {
  std::string filename;
  /// Opened with the driver "file": the file itself is described, without a format on top.
  bool is_bare_file = false;
  ImageInfo image;
  FileFacts file;
  /// From the file up.
  std::vector<PartFacts> parts;
  /// Where the backing file really is; empty when there is none or its place cannot be told.
  std::optional<std::string> full_backing_filename;
};

Result<ImageFacts> gather_facts(const Layer& layer);

}  // namespace imgconv
