#include "engine/create_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <map>
#include <memory>
#include <utility>

#include "engine/image_chain.h"
#include "engine/image_name.h"
#include "engine/open_image.h"
#include "engine/option_pieces.h"
#include "formats/format_names.h"
#include "formats/registry.h"
#include "loop/out_of_memory.h"
#include "loop/try.h"

namespace imgconv {
namespace {

constexpr std::string_view kSize = "size";
constexpr std::string_view kDataFile = "data_file";
constexpr std::string_view kBackingFile = "backing_file";
constexpr std::string_view kBackingFormat = "backing_fmt";

/// What the original takes for "no size given".
constexpr uint64_t kNoSize = std::numeric_limits<uint64_t>::max();

std::string with_doubled_commas(std::string_view text) {
  std::string result;
  for (const char c : text) {
    result += c;
    if (c == ',') result += ',';
  }
  return result;
}

/// Values as they will be used; booleans in the words of the user, as the original prints them.
std::string formatting_line(const CreateRequest& request, const OptionList& list,
                            const OptionValues& values) {
  std::map<std::string, std::string, std::less<>> given;
  for (OptionPiece& piece : split_option_pieces(request.options)) {
    given[piece.name] = std::move(piece.value);
  }
  std::string line = fmt::format("Formatting '{}', fmt={}", request.name, request.format);
  for (const OptionSpec& option : list) {
    std::string value;
    if (!values.has(option.name)) {
      if (!option.default_value) continue;
      value = *option.default_value;
    } else if (option.type == OptionType::kString) {
      value = with_doubled_commas(values.string(option.name).value_or(""));
    } else if (option.type == OptionType::kBool) {
      value = given[option.name];
      if (value.empty()) value = values.boolean(option.name).value_or(false) ? "on" : "off";
    } else {
      // With a sign, as there: -1 passes for a number until it is looked at.
      value = fmt::format("{}", static_cast<int64_t>(values.number(option.name).value_or(0)));
    }
    line += fmt::format(" {}={}", option.name, value);
  }
  return line;
}

Result<OptionValues> parse_values(const CreateRequest& request, const BlockDriver& driver) {
  ASSIGN_OR_RETURN(OptionValues values, parse_options(creation_options(driver), request.options));
  if (request.size) {
    if (values.has(kSize)) return Error(EINVAL, "The image size must be specified only once");
    values.set_number(kSize, *request.size);
  }
  if (!driver.supports_backing()) {
    const char* const what = request.backing_file     ? "file"
                             : request.backing_format ? "file format"
                                                      : nullptr;
    if (what == nullptr) return values;
    return Error(ENOTSUP, fmt::format("Backing {} not supported for file format '{}'", what,
                                      request.format));
  }
  if (request.backing_file) values.set_string(kBackingFile, *request.backing_file);
  if (request.backing_format) values.set_string(kBackingFormat, *request.backing_format);
  return values;
}

/// Refuses the target itself as backing file, by whatever name: creating it would destroy it.
Result<void> check_backing_name(Storage& storage, const CreateRequest& request,
                                const std::string& backing) {
  if (backing.empty()) return Error(EINVAL, "Expected backing file name, got empty string");
  bool is_target = backing == request.name;
  const Result<std::string> target_path = path_of_name(request.name);
  const Result<std::string> resolved = resolve_backing_name(request.name, backing);
  if (!is_target && target_path && resolved && storage.exists(*target_path)) {
    const Result<std::string> backing_path = path_of_name(*resolved);
    is_target = backing_path && storage.is_same_file(*target_path, *backing_path);
  }
  if (!is_target) return ok();
  return Error(EINVAL,
               "Error: Trying to create an image with the same filename as the backing file");
}

/// Opens the backing chain to see that it is there. Its virtual size.
Task<Result<uint64_t>> probe_backing(Storage& storage, const CreateRequest& request,
                                     const OptionValues& values, Messages& messages) {
  ImageRequest backing;
  CO_ASSIGN_OR_RETURN(backing.name,
                      resolve_backing_name(request.name, values.string(kBackingFile).value_or("")));
  backing.format = values.string(kBackingFormat).value_or("");
  backing.force_share = true;
  backing.name_in_errors = false;
  // Nothing is read but headers, so that what is below may be encrypted.
  backing.metadata_only = true;
  Result<std::unique_ptr<ImageChain>> chain = co_await open_image(storage, backing, messages);
  if (!chain) {
    const std::string& hint = chain.error().hint();
    co_return Error(chain.error())
        .with_hint((hint.empty() ? "" : hint + "\n") + "Could not open backing image.");
  }
  if (!values.has(kBackingFormat)) {
    co_return Error(EINVAL, "Backing file specified without backing format")
        .with_hint(fmt::format("Detected format of {}.", (*chain)->layers().front().format));
  }
  const uint64_t size = (*chain)->virtual_size();
  CO_RETURN_IF_ERROR(co_await (*chain)->close());
  co_return size;
}

/// Completes `values` by what the backing file tells.
Task<Result<void>> settle_backing(Storage& storage, const CreateRequest& request,
                                  OptionValues& values, Messages& messages) {
  const std::optional<std::string> backing_file = values.string(kBackingFile);
  if (!backing_file) co_return ok();
  CO_RETURN_IF_ERROR(check_backing_name(storage, request, *backing_file));
  if (request.backing_unsafe) {
    if (values.has(kBackingFormat)) co_return ok();
    co_return Error(EINVAL, "Backing file specified without backing format");
  }
  CO_ASSIGN_OR_RETURN(const uint64_t size,
                      co_await probe_backing(storage, request, values, messages));
  if (!values.has(kSize)) values.set_number(kSize, size);
  co_return ok();
}

Task<Result<PreparedCreate>> prepare(Storage& storage, const CreateRequest& request,
                                     Messages& messages) {
  PreparedCreate prepared;
  prepared.driver = find_driver(request.format);
  if (prepared.driver == nullptr) {
    co_return no_creation(request.format);
  }
  // A json: name cannot be created; the original takes it for a protocol as well.
  const Result<std::string> target = path_to_create(request.name);
  if (!target && target.error().code() != ENOENT) co_return Error(target.error());
  CO_ASSIGN_OR_RETURN(OptionValues values, parse_values(request, *prepared.driver));
  CO_RETURN_IF_ERROR(co_await settle_backing(storage, request, values, messages));
  const uint64_t size = values.number(kSize).value_or(kNoSize);
  if (size == kNoSize) co_return Error(EINVAL, "Image creation needs a size parameter");

  prepared.name = request.name;
  prepared.cache = request.cache;
  prepared.formatting_line = formatting_line(request, creation_options(*prepared.driver), values);
  prepared.options.virtual_size = size;
  prepared.options.options = std::move(values);
  prepared.options.create_data_file =
      [&storage, cache = request.cache](const std::string& name) -> Result<std::unique_ptr<File>> {
    ASSIGN_OR_RETURN(const std::string path, path_to_create(name));
    return storage.create(path, cache);
  };
  co_return prepared;
}

/// A file that could not be made an image is removed, or empty if it was there before.
Task<Result<void>> clean_up(Storage& storage, std::unique_ptr<File> file, bool existed) {
  const std::string path = file->name();
  if (existed) {
    CO_ASSIGN_OR_RETURN(const FileStat stat, file->stat());
    if (!stat.is_block_device) CO_RETURN_IF_ERROR(co_await file->truncate(0));
    co_return ok();
  }
  file.reset();
  CO_RETURN_IF_ERROR(storage.remove(path));
  co_return ok();
}

Task<Result<void>> write_image(Storage& storage, const PreparedCreate& prepared) {
  CO_RETURN_IF_ERROR(prepared.driver->validate_create(prepared.options));
  CO_ASSIGN_OR_RETURN(const std::string path, path_to_create(prepared.name));
  CreateImageOptions options = prepared.options;
  // First, as it may be refused: what stands where the image will be is not harmed then.
  std::unique_ptr<File> data_file;
  bool data_file_existed = false;
  if (const auto name = options.options.string(kDataFile)) {
    CO_ASSIGN_OR_RETURN(const std::string data_path, path_to_create(*name));
    data_file_existed = storage.exists(data_path);
    CO_ASSIGN_OR_RETURN(data_file, options.create_data_file(*name));
    options.create_data_file = [&data_file](const std::string&) -> Result<std::unique_ptr<File>> {
      return std::move(data_file);
    };
  }
  const bool existed = storage.exists(path);
  Result<std::unique_ptr<File>> file = storage.create(path, prepared.cache);
  if (!file) {
    // The error that comes first is the one to tell, here and below.
    if (data_file && !data_file_existed) {
      const Result<void> removed = co_await clean_up(storage, std::move(data_file), false);
      static_cast<void>(removed);
    }
    co_return Error(file.error());
  }
  // Preallocated in part it would look like an image.
  const EmergencyCleanup emergency((*file)->blocking().descriptor());
  Result<void> created = co_await prepared.driver->create(**file, std::move(options));
  if (!created) {
    const Result<void> cleaned = co_await clean_up(storage, std::move(*file), existed);
    static_cast<void>(cleaned);
  }
  co_return created;
}

}  // namespace

OptionList creation_options(const BlockDriver& driver) {
  OptionList list = driver.create_options();
  const auto add = [&list](const OptionSpec& option) {
    const bool is_known = std::any_of(list.begin(), list.end(), [&](const OptionSpec& known) {
      return known.name == option.name;
    });
    if (!is_known) list.push_back(option);
  };
  // Hints for some file systems, which may be ignored and are.
  add({"nocow", OptionType::kBool, "Turn off copy-on-write (valid only on btrfs)", {}});
  add({"extent_size_hint",
       OptionType::kSize,
       "Extent size hint for the image file, 0 to disable",
       {}});
  return list;
}

Task<Result<PreparedCreate>> prepare_create(Storage& storage, const CreateRequest& request,
                                            Messages& messages) {
  if (!request.options.empty() && !is_valid_option_text(request.options)) {
    co_return Error(EINVAL, fmt::format("Invalid option list: {}", request.options));
  }
  Result<PreparedCreate> prepared = co_await prepare(storage, request, messages);
  if (prepared || !request.name_in_errors) co_return prepared;
  co_return std::move(prepared).error().within(request.name);
}

Task<Result<void>> perform_create(Storage& storage, const PreparedCreate& prepared) {
  Result<void> created = co_await write_image(storage, prepared);
  if (created) co_return created;
  co_return std::move(created).error().within(prepared.name);
}

}  // namespace imgconv
