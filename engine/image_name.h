// image_name: what a name as the user or an image header wrote it asks us to open (CLI.md 1.4):
// a path, file:PATH, json:{...} or an --image-opts string, made into an ImageSpec.
//
// Opens nothing and looks at no file. A spec is a value. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/json_name.h"
#include "engine/node_options.h"
#include "loop/result.h"

namespace imgconv {

/// A node of the driver "raw" between a format and its file: a part of the file, or all of it.
struct RawNode {
  uint64_t offset = 0;
  std::optional<uint64_t> size;
  /// Both as JSON, in the words they were given in; empty when not given.
  std::string offset_json;
  std::string size_json;
};

/// A file by path.
struct FileSpec {
  std::string path;
  /// The driver null-co: there is no file.
  std::optional<uint64_t> null_file_bytes;
  /// From the file up.
  std::vector<RawNode> raw_nodes;
  /// locking=off.
  bool is_unlocked = false;
  bool is_read_only = false;
  /// Writing is asked for, and sharing with everybody, by the options of the file itself.
  bool is_writable = false;
  bool force_share = false;
  /// aio=native, which asks for O_DIRECT.
  bool is_native_aio = false;
  CacheOverride cache;
};

struct ImageSpec {
  enum class Backing : uint8_t {
    kFromHeader,  ///< What the image itself states.
    kNone,        ///< Not to be opened.
    kOverride,    ///< `backing` instead of, or in addition to, what the image states.
  };

  /// Empty: probe. "file" is raw under another name.
  std::string format;
  /// Absent only in a backing override that leaves the name to the image's header.
  std::optional<FileSpec> file;
  std::optional<FileSpec> data_file;
  Backing backing_source = Backing::kFromHeader;
  std::unique_ptr<ImageSpec> backing;
  /// The name of a node that is to be the backing file. There are none.
  std::string backing_reference;
  bool force_share = false;
  bool is_read_only = false;
  bool is_writable = false;
  /// Holds for the file and for the backing chain, too.
  CacheOverride cache;
  /// Of the format raw only.
  RawNode raw;
  /// Options not understood without the format, which may have to be probed first.
  NameOptions format_options;
};

/// The name of a node, where an image or a file is expected.
Error unknown_node(std::string_view reference);
Error missing_file_node();
/// A driver whose node is no file: null-co, null-aio.
bool is_null_driver(std::string_view name);
/// Does a ':' come before any '/'?
bool has_protocol(std::string_view name);
/// The path behind a plain or file: name, "./a:b" for file:a:b, so that it remains one when taken
/// for a name. "Unknown protocol 'foo'".
Result<std::string> path_of_name(const std::string& name);
/// The same of what is to be created; no name is ENOENT there, "Could not create ''".
Result<std::string> path_to_create(const std::string& name);
/// A path, file:PATH or json:{...}. `format`, unless empty, goes before what a json: name says.
Result<ImageSpec> parse_image_name(const std::string& name, const std::string& format,
                                   NameWarnings& warnings);
/// An --image-opts string.
Result<ImageSpec> parse_image_spec_options(std::string_view text, NameWarnings& warnings);
/// Moves the options that `format` understands from format_options into the spec. "Block format
/// 'qcow2' does not support the option 'x'".
Result<void> apply_format_options(ImageSpec& spec, std::string_view format);
/// The name for messages, `info` and relative backing names: the path, or a json: name where one
/// path does not say it. Requires: spec.file.
std::string display_name(const ImageSpec& spec);
/// The same for the lowest `count` > 0 of the raw nodes below a format.
std::string display_name(const FileSpec& file, size_t count);

}  // namespace imgconv
