#include "engine/target_staging.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/image_name.h"
#include "loop/posix_io.h"
#include "loop/try.h"

namespace imgconv {
namespace {

Result<std::string> path_of_target(const StagingRequest& request, const std::string& name) {
  Result<std::string> path = path_to_create(name);
  if (path || path.error().code() != ENOENT) return path;
  return std::move(path).error().within(request.context);
}

/// What its files' closing would say.
Result<void> check_closing_of(ImageChain& target) {
  for (File* const file : target.top().files()) {
    const int descriptor = file->blocking().descriptor();
    if (descriptor < 0) continue;
    Result<void> checked = check_closing(descriptor);
    if (checked) continue;
    return std::move(checked).error().within(fmt::format("Could not close '{}'", file->name()));
  }
  return ok();
}

}  // namespace

Result<TargetStaging> TargetStaging::begin(Storage& storage, const StagingRequest& request,
                                           CreateImageOptions* create) {
  TargetStaging staging(storage, request.sync);
  if (create == nullptr) return staging;
  // The data file first: an image is complete when what it refers to is there.
  if (const auto data_file = create->options.string("data_file")) {
    ASSIGN_OR_RETURN(const std::string path, path_of_target(request, *data_file));
    RETURN_IF_ERROR(staging.stage(path, request.replaces));
  }
  staging.is_in_place_ = false;
  ASSIGN_OR_RETURN(const std::string path, path_of_target(request, request.target));
  RETURN_IF_ERROR(staging.stage(path, request.replaces));
  if (staging.is_in_place_) {
    staging.in_place_path_ = path;
    // raw has no header to say it.
    create->is_incomplete = request.format == "qcow2";
    staging.empties_on_failure_ = !create->is_incomplete;
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

void TargetStaging::guard_created(std::optional<EmergencyCleanup>& emergency) const {
  if (empties_on_failure_) {
    emergency.emplace(in_place_path_, EmergencyCleanup::Action::kEmpty);
  }
}

Result<void> TargetStaging::sync_in_place(ImageChain& target) const {
  if (!sync_) return ok();
  for (File* const file : target.top().files()) {
    ASSIGN_OR_RETURN(const FileStat stat, file->stat());
    // publish() makes the others durable.
    const bool is_staged = std::find(staged_.begin(), staged_.end(), file->name()) != staged_.end();
    if (!is_staged && !stat.ignores_flush) RETURN_IF_ERROR(storage_->sync(file->name()));
  }
  return ok();
}

Task<Result<void>> TargetStaging::complete(ImageChain& target) const {
  if (!is_in_place_) co_return ok();
  CO_RETURN_IF_ERROR(sync_in_place(target));
  // As long as it can still be given up.
  CO_RETURN_IF_ERROR(check_closing_of(target));
  CO_RETURN_IF_ERROR(co_await target.top().mark_complete());
  co_return ok();
}

Task<Result<void>> TargetStaging::close(ImageChain& target, Result<void> filled,
                                        const std::string& name_in_errors) const {
  if (filled) filled = co_await complete(target);
  if (!filled) {
    // The error that made the target useless is the one to tell.
    const Result<void> given_up = co_await give_up(&target);
    static_cast<void>(given_up);
  }
  Result<void> closed = co_await target.close();
  if (!filled) co_return std::move(filled).error();
  if (!closed) co_return std::move(closed).error().within(name_in_errors);
  co_return ok();
}

Result<void> TargetStaging::publish(ImageChain& target) const {
  RETURN_IF_ERROR(sync_in_place(target));
  RETURN_IF_ERROR(check_closing_of(target));
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
