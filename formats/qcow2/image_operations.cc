// Qcow2Image, the operations that change an image as a whole.
#include <cassert>
#include <cerrno>
#include <utility>

#include "formats/qcow2/amend.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/resize.h"
#include "formats/qcow2/snapshot_operations.h"
#include "loop/messages_before.h"
#include "loop/try.h"

namespace imgconv::qcow2 {

Task<Result<void>> Qcow2Image::finish_operation(Result<void> result) {
  parts_.info.virtual_size = header().guest_size();
  parts_.info.snapshots.clear();
  for (const Snapshot& snapshot : parts_.snapshots) parts_.info.snapshots.push_back(snapshot.info);
  if (!result) co_return co_await remark(result.error());
  co_return result;
}

Task<Result<void>> Qcow2Image::resize(const ResizeRequest& request) {
  assert(writer_ != nullptr);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  CO_RETURN_IF_ERROR(co_await writer_->flush(true));
  Result<void> resized =
      co_await qcow2::resize(*writer_, parts_.data_file.get(), bitmaps_, request);
  co_return co_await finish_operation(std::move(resized));
}

Task<Result<void>> Qcow2Image::create_snapshot(const SnapshotInfo& info) {
  assert(writer_ != nullptr);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  CO_RETURN_IF_ERROR(co_await writer_->flush(true));
  Result<void> created = co_await qcow2::create_snapshot(*writer_, parts_.snapshots, info);
  co_return co_await finish_operation(std::move(created));
}

Task<Result<void>> Qcow2Image::apply_snapshot(const std::string& id_or_name) {
  assert(writer_ != nullptr);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  if (!bitmaps_.is_empty()) {
    co_return Error(EBUSY, "Device has active dirty bitmaps");
  }
  CO_RETURN_IF_ERROR(co_await writer_->flush(true));
  Result<void> applied = co_await qcow2::apply_snapshot(*writer_, parts_.snapshots, id_or_name);
  Result<void> result = co_await finish_operation(std::move(applied));
  if (result) co_return ok();
  const Error& cause = result.error();
  Error failure = Error::from_errno(cause.code(), "Failed to load snapshot");
  if (cause.text() == errno_text(cause.code())) co_return failure;
  co_return preceded_by(std::move(failure), cause.text());
}

Task<Result<void>> Qcow2Image::delete_snapshot(const std::string& name) {
  assert(writer_ != nullptr);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  CO_RETURN_IF_ERROR(co_await writer_->flush(true));
  Result<void> deleted = co_await qcow2::delete_snapshot(*writer_, parts_.snapshots, name);
  co_return co_await finish_operation(std::move(deleted));
}

Task<Result<void>> Qcow2Image::amend(const AmendRequest& request) {
  assert(writer_ != nullptr);
  const CoMutex::Guard guard = co_await mutex_.lock();
  CO_RETURN_IF_ERROR(check_usable());
  CO_RETURN_IF_ERROR(co_await writer_->flush(true));
  Result<void> amended =
      co_await qcow2::amend(*writer_, parts_.data_file.get(), bitmaps_, parts_.snapshots, request);
  co_return co_await finish_operation(std::move(amended));
}

}  // namespace imgconv::qcow2
