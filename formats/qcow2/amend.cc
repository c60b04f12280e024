#include "formats/qcow2/amend.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "formats/qcow2/amend_options.h"
#include "formats/qcow2/amend_refcounts.h"
#include "formats/qcow2/amend_zero_clusters.h"
#include "formats/qcow2/header_update.h"
#include "formats/qcow2/resize.h"
#include "formats/qcow2/snapshot_store.h"
#include "loop/messages_before.h"
#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

Task<Result<void>> replace_header(const Metadata& metadata, Header header, const char* context) {
  Result<void> written = co_await update_header(metadata.io.file(), header);
  if (!written) co_return std::move(written).error().within(context);
  metadata.header = std::move(header);
  co_return ok();
}

Task<Result<void>> upgrade(const Metadata& metadata, std::vector<Snapshot>& snapshots) {
  const auto is_short = [](const Snapshot& s) {
    return s.extra_data_size < kMinV3SnapshotExtraBytes;
  };
  if (std::ranges::any_of(snapshots, is_short)) {
    Result<void> stored = co_await store_snapshot_table(metadata, snapshots);
    if (!stored) co_return std::move(stored).error().within("Failed to update the snapshot table");
    CO_RETURN_IF_ERROR(co_await flush_refcounts(metadata));
    for (Snapshot& snapshot : snapshots) {
      snapshot.extra_data_size = std::max(snapshot.extra_data_size, kMinV3SnapshotExtraBytes);
    }
  }
  Header header = metadata.header;
  header.version = 3;
  CO_RETURN_IF_ERROR(
      co_await replace_header(metadata, std::move(header), "Failed to update the image header"));
  co_return ok();
}

/// What is only words in the header.
Task<Result<void>> set_flags(const Metadata& metadata, const AmendPlan& plan) {
  Header header = metadata.header;
  if (plan.data_file) {
    header.extensions.data_file = plan.data_file;
    if (plan.data_file->empty()) header.extensions.data_file.reset();
  }
  if (!plan.is_data_file_raw) header.autoclear_features &= ~kAutoclearDataFileRaw;
  header.compatible_features &= ~kCompatLazyRefcounts;
  if (plan.has_lazy_refcounts) header.compatible_features |= kCompatLazyRefcounts;
  const Header& old = metadata.header;
  const bool is_same = header.extensions.data_file == old.extensions.data_file &&
                       header.autoclear_features == old.autoclear_features &&
                       header.compatible_features == old.compatible_features;
  if (is_same) co_return ok();
  CO_RETURN_IF_ERROR(
      co_await replace_header(metadata, std::move(header), "Failed to update the image header"));
  co_return ok();
}

/// The errno text, after what else there is to say.
Error expansion_failure(const Error& cause) {
  Error failure = Error::from_errno(cause.code(), "Failed to turn zero into data clusters")
                      .with_hint(cause.hint());
  if (cause.text() == errno_text(cause.code())) return failure;
  return preceded_by(std::move(failure), cause.text());
}

Task<Result<void>> downgrade(Writer& writer, std::span<const Snapshot> snapshots,
                             const AmendRequest& request) {
  const Metadata metadata = writer.metadata();
  CO_RETURN_IF_ERROR(check_snapshots_fit_v2(metadata.header, snapshots));
  Header header = metadata.header;
  if (header.compression != Codec::kDeflate) {
    // QEMU does not look at snapshots here, and stumbles over damaged ones in the next step.
    const Result<bool> is_used = co_await has_compressed_clusters(metadata, snapshots);
    if (!is_used) co_return expansion_failure(is_used.error());
    if (*is_used) {
      co_return Error(ENOTSUP,
                      "Cannot downgrade an image with zstd compression type and existing "
                      "compressed clusters");
    }
    header.compression = Codec::kDeflate;
  }
  Result<void> expanded = co_await expand_zero_clusters(writer, snapshots, request);
  if (!expanded) co_return expansion_failure(expanded.error());
  header.version = 2;
  header.incompatible_features = 0;
  header.compatible_features = 0;
  header.autoclear_features = 0;
  header.unknown_fields.clear();
  CO_RETURN_IF_ERROR(
      co_await replace_header(metadata, std::move(header), "Failed to change the image version"));
  co_return ok();
}

}  // namespace

Task<Result<void>> amend(Writer& writer, File* data_file, Bitmaps& bitmaps,
                         std::vector<Snapshot>& snapshots, const AmendRequest& request) {
  const Metadata metadata = writer.metadata();
  CO_ASSIGN_OR_RETURN(const AmendPlan plan, plan_amend(metadata.header, snapshots, request));
  const uint32_t old_version = metadata.header.version;
  // Up first and down last: what lies between may need version 3, or remove what version 2 forbids.
  if (plan.version > old_version) CO_RETURN_IF_ERROR(co_await upgrade(metadata, snapshots));
  if (plan.refcount_order != metadata.header.refcount_order) {
    CO_RETURN_IF_ERROR(
        co_await change_refcount_width(writer, plan.refcount_order, request.progress));
  }
  CO_RETURN_IF_ERROR(co_await set_flags(metadata, plan));
  if (plan.virtual_size) {
    const ResizeRequest resized{*plan.virtual_size, Preallocation::kOff, request.backing_size};
    CO_RETURN_IF_ERROR(co_await resize(writer, data_file, bitmaps, resized));
    CO_RETURN_IF_ERROR(co_await writer.flush(true));
  }
  if (plan.version < old_version)
    CO_RETURN_IF_ERROR(co_await downgrade(writer, snapshots, request));
  co_return ok();
}

}  // namespace imgconv::qcow2
