#include "formats/qcow2/create_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <string>
#include <utility>

#include "formats/format_names.h"
#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

constexpr uint64_t kDefaultClusterSize = 64 * kKiB;
constexpr unsigned kMinExtendedClusterBits = 14;
constexpr uint64_t kDefaultRefcountBits = 16;

Error needs_v3(std::string_view what) {
  return Error(EINVAL, fmt::format("{} only supported with compatibility level 1.1 and above (use "
                                   "version=v3 or greater)",
                                   what));
}

Error bad_value(std::string_view parameter, std::string_view value) {
  return Error(EINVAL, fmt::format("Parameter '{}' does not accept value '{}'", parameter, value));
}

Result<uint32_t> parse_version(const OptionValues& options) {
  const std::string compat = options.string("compat").value_or("v3");
  if (compat == "0.10" || compat == "v2") return 2;
  if (compat == "1.1" || compat == "v3") return 3;
  return bad_value("version", compat);
}

Result<void> check_encryption(const OptionValues& options) {
  const bool has_legacy = options.boolean("encryption").value_or(false);
  const std::optional<std::string> format = options.string("encrypt.format");
  if (options.has("encryption") && has_legacy && format) {
    return Error(EINVAL,
                 "'encrypt.format' and its alias 'encryption' can't be used at the same time");
  }
  if (format && *format != "aes" && *format != "luks") return bad_value("format", *format);
  if (format || has_legacy) {
    return Error(ENOTSUP, "Encrypted images are not supported");
  }
  for (const OptionSpec& option : create_options()) {
    if (option.name.starts_with("encrypt.") && options.has(option.name)) {
      return Error(EINVAL, "Parameter 'encrypt.format' is missing");
    }
  }
  return ok();
}

/// Values that name something, in the order in which QEMU looks at them.
Result<void> take_names(CreateRequest& request, const OptionValues& options) {
  Header& header = request.header;
  ASSIGN_OR_RETURN(header.version, parse_version(options));
  header.backing_file = options.string("backing_file").value_or("");
  header.extensions.backing_format = options.string("backing_fmt");
  header.extensions.data_file = options.string("data_file");
  if (header.extensions.backing_format && !is_known_format(*header.extensions.backing_format)) {
    return bad_value("backing-fmt", *header.extensions.backing_format);
  }
  RETURN_IF_ERROR(check_encryption(options));
  const std::string preallocation = options.string("preallocation").value_or("off");
  const std::optional<Preallocation> found = find_preallocation(preallocation);
  if (!found) return bad_value("preallocation", preallocation);
  request.preallocation = *found;
  const std::string compression = options.string("compression_type").value_or("zlib");
  if (compression != "zlib" && compression != "zstd") {
    return bad_value("compression-type", compression);
  }
  header.compression = compression == "zstd" ? Codec::kZstd : Codec::kDeflate;
  return ok();
}

Result<void> take_geometry(Header& header, const OptionValues& options) {
  const bool is_extended = options.boolean("extended_l2").value_or(false);
  if (is_extended && header.version < 3) return needs_v3("Extended L2 entries are");
  ASSIGN_OR_RETURN(
      header.cluster_bits,
      parse_cluster_bits(options.number("cluster_size").value_or(kDefaultClusterSize)));
  if (!is_extended) return ok();
  header.incompatible_features |= kIncompatExtendedL2;
  return check_extended_l2_cluster(header.cluster_bits);
}

Result<void> take_references(CreateRequest& request, const OptionValues& options) {
  Header& header = request.header;
  const bool has_backing = !header.backing_file.empty();
  if (has_backing && request.preallocation != Preallocation::kOff && !header.has_extended_l2()) {
    return Error(EINVAL,
                 "Backing file and preallocation can only be used at the same time if extended_l2 "
                 "is on");
  }
  if (header.extensions.backing_format && !has_backing) {
    return Error(EINVAL, "Backing format cannot be used without backing file");
  }
  if (options.boolean("lazy_refcounts").value_or(false)) {
    if (header.version < 3) return needs_v3("Lazy refcounts");
    header.compatible_features |= kCompatLazyRefcounts;
  }
  ASSIGN_OR_RETURN(
      header.refcount_order,
      parse_refcount_order(options.number("refcount_bits").value_or(kDefaultRefcountBits)));
  if (header.version < 3 && header.refcount_bits() != kDefaultRefcountBits) {
    return Error(EINVAL,
                 "Different refcount widths than 16 bits require compatibility level 1.1 or above "
                 "(use version=v3 or greater)");
  }
  const bool has_data_file = header.extensions.data_file.has_value();
  if (options.boolean("data_file_raw").value_or(false)) {
    if (!has_data_file) return Error(EINVAL, "data-file-raw requires data-file");
    if (has_backing) {
      return Error(EINVAL, "Backing file and data-file-raw cannot be used at the same time");
    }
    header.autoclear_features |= kAutoclearDataFileRaw;
    // Every guest byte must be in the data file, so every cluster must be mapped.
    request.preallocation = std::max(request.preallocation, Preallocation::kMetadata);
  }
  if (has_data_file) {
    if (header.version < 3) return needs_v3("External data files are");
    header.incompatible_features |= kIncompatDataFile;
  }
  if (header.compression != Codec::kDeflate) {
    if (header.version < 3) return needs_v3("Non-zlib compression type is");
    header.incompatible_features |= kIncompatCompression;
  }
  return ok();
}

Result<void> take_size(Header& header, uint64_t virtual_size) {
  if (virtual_size > kMaxDiskSize) {
    return Error(EINVAL, fmt::format("Could not resize image: offset({}) exceeds maximum({})",
                                     round_down(virtual_size, kSectorSize) +
                                         (is_aligned(virtual_size, kSectorSize) ? 0 : kSectorSize),
                                     kMaxDiskSize));
  }
  header.virtual_size = round_up(virtual_size, kSectorSize);
  const uint64_t l1_entries = header.l1_entries_for_disk();
  if (l1_entries > kMaxL1Bytes / kTableEntryBytes) {
    return image_too_large();
  }
  header.l1_entries = static_cast<uint32_t>(l1_entries);
  return ok();
}

}  // namespace

const OptionList& create_options() {
  using enum OptionType;
  static const OptionList kOptions = {
      {"encryption",
       kBool,
       "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
       {}},
      {"encrypt.format", kString, "Encrypt the image, format choices: 'aes', 'luks'", {}},
      {"encrypt.key-secret", kString, "ID of secret providing qcow AES key or LUKS passphrase", {}},
      {"encrypt.cipher-alg", kString, "Name of encryption cipher algorithm", {}},
      {"encrypt.cipher-mode", kString, "Name of encryption cipher mode", {}},
      {"encrypt.ivgen-alg", kString, "Name of IV generator algorithm", {}},
      {"encrypt.ivgen-hash-alg", kString, "Name of IV generator hash algorithm", {}},
      {"encrypt.hash-alg", kString, "Name of encryption hash algorithm", {}},
      {"encrypt.iter-time", kNumber, "Time to spend in PBKDF in milliseconds", {}},
      {"cluster_size", kSize, "qcow2 cluster size", "65536"},
      {"extended_l2", kBool, "Extended L2 tables", "off"},
      {"preallocation",
       kString,
       "Preallocation mode (allowed values: off, metadata, falloc, full)",
       {}},
      {"compression_type", kString, "Compression method used for image cluster compression",
       "zlib"},
      {"size", kSize, "Virtual disk size", {}},
      {"compat", kString, "Compatibility level (v2 [0.10] or v3 [1.1])", {}},
      {"backing_file", kString, "File name of a base image", {}},
      {"backing_fmt", kString, "Image format of the base image", {}},
      {"data_file", kString, "File name of an external data file", {}},
      {"data_file_raw", kBool, "The external data file must stay valid as a raw image", {}},
      {"lazy_refcounts", kBool, "Postpone refcount updates", "off"},
      {"refcount_bits", kNumber, "Width of a reference count entry in bits", "16"},
  };
  return kOptions;
}

Error image_too_large() {
  return Error(EFBIG,
               "The image size is too large for file format 'qcow2' (try using a larger cluster "
               "size)");
}

Result<unsigned> parse_cluster_bits(uint64_t cluster_size) {
  if (!is_power_of_two(cluster_size) || cluster_size < uint64_t{1} << kMinClusterBits ||
      cluster_size > uint64_t{1} << kMaxClusterBits) {
    return Error(EINVAL, "Cluster size must be a power of two between 512 and 2048k");
  }
  return static_cast<unsigned>(std::countr_zero(cluster_size));
}

Result<unsigned> parse_refcount_order(uint64_t refcount_bits) {
  if (!is_power_of_two(refcount_bits) || refcount_bits > 64) {
    return Error(EINVAL, "Refcount width must be a power of two and may not exceed 64 bits");
  }
  return static_cast<unsigned>(std::countr_zero(refcount_bits));
}

Result<void> check_extended_l2_cluster(unsigned cluster_bits) {
  if (cluster_bits >= kMinExtendedClusterBits) return ok();
  return Error(EINVAL,
               fmt::format("Extended L2 entries are only supported with cluster sizes of at least "
                           "{} bytes",
                           1U << kMinExtendedClusterBits));
}

Result<CreateRequest> parse_create_request(const CreateImageOptions& options) {
  CreateRequest request;
  RETURN_IF_ERROR(take_names(request, options.options));
  RETURN_IF_ERROR(take_geometry(request.header, options.options));
  RETURN_IF_ERROR(take_references(request, options.options));
  RETURN_IF_ERROR(take_size(request.header, options.virtual_size));
  return request;
}

}  // namespace imgconv::qcow2
