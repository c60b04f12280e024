// What -o may say for a new qcow2 image, and the checks that need no file (CLI.md 4). The result is
// a Header without table offsets: where things go is for create.h. Pure, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "formats/driver.h"
#include "formats/options.h"
#include "formats/preallocation_mode.h"
#include "formats/qcow2/header.h"
#include "loop/result.h"

namespace imgconv::qcow2 {

/// In the order of QEMU's "Formatting" line, with its help texts.
const OptionList& create_options();

/// The options after parsing and checking.
struct CreateRequest {
  /// All fields but the places of the tables.
  Header header;
  Preallocation preallocation = Preallocation::kOff;
};

/// The errors are the texts that QEMU prints after "FILE: ", in its order.
Result<CreateRequest> parse_create_request(const CreateImageOptions& options);

/// What QEMU says of every EFBIG while it creates.
Error image_too_large();

/// Shared with measure: "Cluster size must be ...". `cluster_size` as the user gave it.
Result<unsigned> parse_cluster_bits(uint64_t cluster_size);
/// "Refcount width must be ...".
Result<unsigned> parse_refcount_order(uint64_t refcount_bits);
/// "Extended L2 entries are only supported with cluster sizes of at least ..."
Result<void> check_extended_l2_cluster(unsigned cluster_bits);

}  // namespace imgconv::qcow2
