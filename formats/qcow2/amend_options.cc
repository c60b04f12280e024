#include "formats/qcow2/amend_options.h"

#include <fmt/format.h>

#include <cerrno>
#include <limits>

#include "formats/qcow2/create_options.h"
#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

constexpr unsigned kV2RefcountOrder = 4;

Result<void> take_version(AmendPlan& plan, const OptionValues& options) {
  const std::optional<std::string> compat = options.string("compat");
  if (!compat || compat->empty()) return ok();
  if (*compat == "0.10" || *compat == "v2") {
    plan.version = 2;
  } else if (*compat == "1.1" || *compat == "v3") {
    plan.version = 3;
  } else {
    return Error(EINVAL, "Unknown compatibility level " + *compat);
  }
  return ok();
}

Result<void> take_data_file(AmendPlan& plan, const Header& header, const OptionValues& options) {
  plan.data_file = options.string("data_file");
  if (plan.data_file && !header.has_data_file()) {
    return Error(EINVAL, "data-file can only be set for images that use an external data file");
  }
  plan.is_data_file_raw = options.boolean("data_file_raw").value_or(plan.is_data_file_raw);
  if (plan.is_data_file_raw && !header.is_data_file_raw()) {
    return Error(EINVAL, "data-file-raw cannot be set on existing images");
  }
  return ok();
}

Result<void> check_encryption(const OptionValues& options) {
  for (const OptionSpec& option : amend_options()) {
    if (option.name.starts_with("encrypt.") && options.has(option.name)) {
      return Error(EINVAL, "Can't amend encryption options - encryption not present");
    }
  }
  return ok();
}

/// The name and the format may be repeated as they are, not changed.
Result<void> check_backing(const Header& header, const OptionValues& options) {
  if (!options.has("backing_file") && !options.has("backing_fmt")) return ok();
  const bool is_same = options.string("backing_file").value_or("") == header.backing_file &&
                       options.has("backing_file") == !header.backing_file.empty() &&
                       options.string("backing_fmt") == header.extensions.backing_format;
  if (is_same) return ok();
  return Error(EINVAL, "Cannot amend the backing file")
      .with_hint("You can use 'qemu-img rebase' instead.");
}

Result<void> check_refcount_width(const AmendPlan& plan, const Header& header) {
  const bool is_allowed = plan.version >= 3 || plan.refcount_order == header.refcount_order ||
                          plan.refcount_order == kV2RefcountOrder;
  if (is_allowed) return ok();
  return Error(EINVAL,
               "Refcount widths other than 16 bits require compatibility level 1.1 or above (use "
               "compat=1.1 or greater)");
}

Result<void> check_size(uint64_t size) {
  // QEMU goes on with a signed number.
  if (size > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return Error(EINVAL, "Image size cannot be negative");
  }
  if (size <= kMaxDiskSize) return ok();
  return Error(EINVAL, fmt::format("offset({}) exceeds maximum({})", size, kMaxDiskSize));
}

Result<void> check_lazy_refcounts(const AmendPlan& plan, const Header& header) {
  if (plan.version >= 3 || !plan.has_lazy_refcounts || header.has_lazy_refcounts()) return ok();
  return Error(EINVAL,
               "Lazy refcounts only supported with compatibility level 1.1 and above (use "
               "compat=1.1 or greater)");
}

Result<void> check_downgrade(const AmendPlan& plan, const Header& header,
                             std::span<const Snapshot> snapshots) {
  if (plan.version >= header.version) return ok();
  if (plan.refcount_order != kV2RefcountOrder) {
    return Error(ENOTSUP, "compat=0.10 requires refcount_bits=16");
  }
  if (header.has_data_file()) return Error(ENOTSUP, "Cannot downgrade an image with a data file");
  // With a new size this is asked after the resize, as the original does.
  if (!plan.virtual_size) RETURN_IF_ERROR(check_snapshots_fit_v2(header, snapshots));
  const uint64_t features = header.incompatible_features & ~(kIncompatDirty | kIncompatCompression);
  if (features != 0) {
    return Error(ENOTSUP, fmt::format("Cannot downgrade an image with incompatible features {:#x} "
                                      "set",
                                      features));
  }
  return ok();
}

}  // namespace

Result<void> check_snapshots_fit_v2(const Header& header, std::span<const Snapshot> snapshots) {
  for (const Snapshot& snapshot : snapshots) {
    // What version 2 has no fields for.
    if (snapshot.disk_size != header.guest_size() ||
        snapshot.info.vm_state_size > std::numeric_limits<uint32_t>::max()) {
      return Error(ENOTSUP, "Internal snapshots prevent downgrade of image");
    }
  }
  return ok();
}

const OptionList& amend_options() {
  using enum OptionType;
  static const OptionList kOptions = {
      {"encrypt.state", kString, "Select new state of affected keyslots (active/inactive)", {}},
      {"encrypt.keyslot", kNumber, "Select a single keyslot to modify explicitly", {}},
      {"encrypt.old-secret", kString, "Select all keyslots that match this password", {}},
      {"encrypt.new-secret",
       kString,
       "New secret to set in the matching keyslots. Empty string to erase",
       {}},
      {"encrypt.iter-time", kNumber, "Time to spend in PBKDF in milliseconds", {}},
      {"size", kSize, "Virtual disk size", {}},
      {"compat", kString, "Compatibility level (v2 [0.10] or v3 [1.1])", {}},
      {"backing_file", kString, "File name of a base image", {}},
      {"backing_fmt", kString, "Image format of the base image", {}},
      {"data_file", kString, "File name of an external data file", {}},
      {"data_file_raw", kBool, "The external data file must stay valid as a raw image", {}},
      {"lazy_refcounts", kBool, "Postpone refcount updates", {}},
      {"refcount_bits", kNumber, "Width of a reference count entry in bits", {}},
  };
  return kOptions;
}

Result<AmendPlan> plan_amend(const Header& header, std::span<const Snapshot> snapshots,
                             const AmendRequest& request) {
  const OptionValues& options = request.options;
  AmendPlan plan;
  plan.version = header.version;
  plan.refcount_order = header.refcount_order;
  plan.has_lazy_refcounts = options.boolean("lazy_refcounts").value_or(header.has_lazy_refcounts());
  plan.is_data_file_raw = header.is_data_file_raw();
  RETURN_IF_ERROR(check_encryption(options));
  RETURN_IF_ERROR(take_version(plan, options));
  RETURN_IF_ERROR(take_data_file(plan, header, options));
  if (const std::optional<uint64_t> bits = options.number("refcount_bits")) {
    ASSIGN_OR_RETURN(plan.refcount_order, parse_refcount_order(*bits));
  }
  // Zero means "as it is" there, too.
  const uint64_t size = options.number("size").value_or(0);
  if (size != 0) plan.virtual_size = size;
  RETURN_IF_ERROR(check_size(size));
  RETURN_IF_ERROR(check_refcount_width(plan, header));
  RETURN_IF_ERROR(check_backing(header, options));
  RETURN_IF_ERROR(check_lazy_refcounts(plan, header));
  RETURN_IF_ERROR(check_downgrade(plan, header, snapshots));
  return plan;
}

}  // namespace imgconv::qcow2
