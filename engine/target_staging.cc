#include "engine/target_staging.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/image_name.h"
#include "loop/try.h"

namespace imgconv {
namespace {

Result<std::string> path_of_target(const ConvertOptions& options, const std::string& name) {
  Result<std::string> path = path_to_create(name);
  if (path || path.error().code() != ENOENT) return path;
  return std::move(path).error().within(
      fmt::format("{}: error while converting {}", options.target, options.target_format));
}

}  // namespace

Result<TargetStaging> TargetStaging::begin(Storage& storage, const ConvertOptions& options,
                                           PreparedTarget& prepared) {
  TargetStaging staging(storage, options.sync);
  if (!prepared.create) return staging;
  CreateImageOptions& create = prepared.create->options;
  // The data file first: an image is complete when what it refers to is there.
  if (const auto data_file = create.options.string("data_file")) {
    ASSIGN_OR_RETURN(const std::string path, path_of_target(options, *data_file));
    RETURN_IF_ERROR(staging.stage(path, options.replace));
  }
  staging.is_in_place_ = false;
  ASSIGN_OR_RETURN(const std::string path, path_of_target(options, options.target));
  RETURN_IF_ERROR(staging.stage(path, options.replace));
  if (staging.is_in_place_) {
    staging.in_place_path_ = path;
    // raw has no header to say it.
    create.is_incomplete = options.target_format == "qcow2";
    staging.empties_on_failure_ = !create.is_incomplete;
    staging.needs_guard_ |= staging.empties_on_failure_;
  }
  return staging;
}

Result<void> TargetStaging::stage(const std::string& path, bool replaces) {
  ASSIGN_OR_RETURN(const Staging kind, storage_->stage(path, replaces));
  if (kind == Staging::kInPlace) {
    is_in_place_ = true;
    return ok();
  }
  staged_.push_back(path);
  needs_guard_ |= kind == Staging::kTemporary;
  return ok();
}

Result<void> TargetStaging::sync_in_place(ImageChain& target) const {
  if (!sync_) return ok();
  for (const File* const file : target.top().files()) {
    // publish() makes the others durable.
    const bool is_staged = std::find(staged_.begin(), staged_.end(), file->name()) != staged_.end();
    if (!is_staged) RETURN_IF_ERROR(storage_->sync(file->name()));
  }
  return ok();
}

Task<Result<void>> TargetStaging::complete(ImageChain& target) const {
  if (!is_in_place_) co_return ok();
  CO_RETURN_IF_ERROR(sync_in_place(target));
  CO_RETURN_IF_ERROR(co_await target.top().mark_complete());
  co_return ok();
}

Result<void> TargetStaging::publish(ImageChain& target) const {
  RETURN_IF_ERROR(sync_in_place(target));
  for (const std::string& path : staged_) RETURN_IF_ERROR(storage_->publish(path, sync_));
  return ok();
}

Task<Result<void>> TargetStaging::give_up(ImageChain* target) const {
  for (const std::string& path : staged_) CO_RETURN_IF_ERROR(storage_->remove(path));
  if (!empties_on_failure_ || target == nullptr) co_return ok();
  CO_ASSIGN_OR_RETURN(const FileStat stat, target->top().file().stat());
  if (stat.is_block_device) co_return ok();
  CO_RETURN_IF_ERROR(co_await target->top().file().truncate(0));
  co_return ok();
}

}  // namespace imgconv
