// create: a new, empty image (CLI.md section 4), also the first half of convert. Loop thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/messages.h"
#include "formats/driver.h"
#include "loop/result.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

struct CreateRequest {
  std::string name;
  std::string format = "raw";
  /// SIZE argument, bytes.
  std::optional<uint64_t> size;
  /// -o, joined with commas.
  std::string options;
  std::optional<std::string> backing_file;
  std::optional<std::string> backing_format;
  /// -u: do not open the backing file.
  bool backing_unsafe = false;
  CacheMode cache = CacheMode::kWriteback;
  /// Put "NAME: " before what is wrong, as `create` does and `convert` does not.
  bool name_in_errors = true;
};

/// A request after every check that needs no target: safe to perform.
struct PreparedCreate {
  const BlockDriver* driver = nullptr;
  std::string name;
  CacheMode cache = CacheMode::kWriteback;
  CreateImageOptions options;
  /// "Formatting 'x', fmt=qcow2 ... " without newline.
  std::string formatting_line;
};

/// What -o takes for a new image of this format: the driver's options and those of every file.
OptionList creation_options(const BlockDriver& driver);

/// Parses options and opens the backing file for its size. Harms nothing. Arguments must outlive
/// the task, here and below.
Task<Result<PreparedCreate>> prepare_create(Storage& storage, const CreateRequest& request,
                                            Messages& messages);
/// Lets the driver check all values, then creates or truncates the file and writes the empty image;
/// the checks come here since the "Formatting" line precedes what they say. "NAME: REASON". A new
/// file that could not be finished is removed.
Task<Result<void>> perform_create(Storage& storage, const PreparedCreate& prepared);

}  // namespace imgconv
