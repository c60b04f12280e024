#include "engine/node_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <limits>
#include <span>

#include "formats/options.h"
#include "loop/try.h"

namespace imgconv {
namespace {

enum class ValueKind : uint8_t { kSwitch, kNumber, kSize };

struct Tuning {
  std::string_view name;
  ValueKind kind;
};

constexpr std::array<Tuning, 3> kFileTuning = {{
    {"aio-max-batch", ValueKind::kNumber},
    {"drop-cache", ValueKind::kSwitch},
    {"x-check-cache-dropped", ValueKind::kSwitch},
}};

constexpr std::array<Tuning, 2> kNullTuning = {{
    {"latency-ns", ValueKind::kNumber},
    {"read-zeroes", ValueKind::kSwitch},
}};

/// Of the original's qcow2 driver; the values of overlap-check itself are names.
constexpr std::array<Tuning, 19> kQcow2Tuning = {{
    {"lazy-refcounts", ValueKind::kSwitch},
    {"pass-discard-request", ValueKind::kSwitch},
    {"pass-discard-snapshot", ValueKind::kSwitch},
    {"pass-discard-other", ValueKind::kSwitch},
    {"discard-no-unref", ValueKind::kSwitch},
    {"overlap-check.main-header", ValueKind::kSwitch},
    {"overlap-check.active-l1", ValueKind::kSwitch},
    {"overlap-check.active-l2", ValueKind::kSwitch},
    {"overlap-check.refcount-table", ValueKind::kSwitch},
    {"overlap-check.refcount-block", ValueKind::kSwitch},
    {"overlap-check.snapshot-table", ValueKind::kSwitch},
    {"overlap-check.inactive-l1", ValueKind::kSwitch},
    {"overlap-check.inactive-l2", ValueKind::kSwitch},
    {"overlap-check.bitmap-directory", ValueKind::kSwitch},
    {"cache-size", ValueKind::kSize},
    {"l2-cache-size", ValueKind::kSize},
    {"l2-cache-entry-size", ValueKind::kSize},
    {"refcount-cache-size", ValueKind::kSize},
    {"cache-clean-interval", ValueKind::kNumber},
}};

template <size_t kCount>
bool contains(const std::array<std::string_view, kCount>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Result<std::optional<bool>> take_switch(NameOptions& options, std::string_view key) {
  const std::optional<std::string> value = take_text(options, key);
  if (!value) return std::nullopt;
  if (*value == "off" || *value == "no" || *value == "false" || *value == "n") return false;
  if (*value == "on" || *value == "yes" || *value == "true" || *value == "y") return true;
  return Error(EINVAL, fmt::format("Parameter '{}' expects 'on' or 'off'", key));
}

Result<void> check_number(std::string_view key, std::string_view text) {
  uint64_t value = 0;
  // A negative number is taken for the large one with the same bits.
  const std::string_view digits = text.starts_with('-') ? text.substr(1) : text;
  const bool is_hexadecimal = digits.starts_with("0x");
  const char* const begin = digits.data() + (is_hexadecimal ? 2 : 0);
  const char* const end = digits.data() + digits.size();
  const auto parsed = std::from_chars(begin, end, value, is_hexadecimal ? 16 : 10);
  if (parsed.ec == std::errc::result_out_of_range) {
    return Error(ERANGE, fmt::format("Value '{}' is too large for parameter '{}'", text, key));
  }
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    return Error(EINVAL, fmt::format("Parameter '{}' expects a number", key));
  }
  return ok();
}

Result<void> take_tuning(NameOptions& options, std::span<const Tuning> known) {
  for (const Tuning& tuning : known) {
    if (tuning.kind == ValueKind::kSwitch) {
      RETURN_IF_ERROR(take_switch(options, tuning.name));
      continue;
    }
    const std::optional<std::string> text = take_text(options, tuning.name);
    if (!text) continue;
    if (tuning.kind == ValueKind::kNumber) {
      RETURN_IF_ERROR(check_number(tuning.name, *text));
    } else {
      RETURN_IF_ERROR(parse_option_size(tuning.name, *text));
    }
  }
  return ok();
}

Result<void> take_overlap_checks(NameOptions& options) {
  constexpr std::array<std::string_view, 4> kTemplates = {"none", "constant", "cached", "all"};
  std::optional<std::string> checks = take_text(options, "overlap-check");
  const std::optional<std::string> of_template = take_text(options, "overlap-check.template");
  if (checks && of_template && *checks != *of_template) {
    return Error(EINVAL, fmt::format("Conflicting values for qcow2 options 'overlap-check' ('{}') "
                                     "and 'overlap-check.template' ('{}')",
                                     *checks, *of_template));
  }
  if (!checks) checks = of_template;
  if (!checks || contains(kTemplates, *checks)) return ok();
  return Error(EINVAL, fmt::format("Unsupported value '{}' for qcow2 option 'overlap-check'. "
                                   "Allowed are any of the following: none, constant, cached, all",
                                   *checks));
}

/// How a guest's discards and zeros are stored: no guest runs here, so only the spelling counts.
Result<void> take_guest_options(NameOptions& options) {
  constexpr std::array<std::string_view, 4> kDiscards = {"ignore", "off", "unmap", "on"};
  constexpr std::array<std::string_view, 3> kDetections = {"off", "on", "unmap"};
  const std::optional<std::string> discard = take_text(options, "discard");
  if (discard && !contains(kDiscards, *discard)) return Error(EINVAL, "Invalid discard option");
  const std::optional<std::string> detection = take_text(options, "detect-zeroes");
  if (detection && !contains(kDetections, *detection)) {
    return Error(EINVAL, fmt::format("invalid parameter value: {}", *detection));
  }
  if (detection == "unmap" && discard != "unmap" && discard != "on") {
    return Error(EINVAL,
                 "setting detect-zeroes to unmap is not allowed without setting discard operation "
                 "to unmap");
  }
  return ok();
}

Result<void> take_node_name(NameOptions& options) {
  constexpr size_t kMaxLength = 31;
  const std::optional<std::string> name = take_text(options, "node-name");
  if (!name) return ok();
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const bool is_identifier =
      !name->empty() && is_letter(name->front()) && std::ranges::all_of(*name, [&](char c) {
        return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
      });
  if (!is_identifier) return Error(EINVAL, fmt::format("Invalid node-name: '{}'", *name));
  if (name->size() > kMaxLength) return Error(EINVAL, "Node name too long");
  return ok();
}

}  // namespace

CacheMode CacheOverride::applied_to(CacheMode mode) const {
  if (!direct && !no_flush) return mode;
  const bool is_sync = mode == CacheMode::kWritethrough || mode == CacheMode::kDirectsync;
  const bool was_direct = mode == CacheMode::kNone || mode == CacheMode::kDirectsync;
  if (direct.value_or(was_direct)) return is_sync ? CacheMode::kDirectsync : CacheMode::kNone;
  if (no_flush.value_or(mode == CacheMode::kUnsafe)) return CacheMode::kUnsafe;
  return is_sync ? CacheMode::kWritethrough : CacheMode::kWriteback;
}

std::optional<std::string> take_text(NameOptions& options, std::string_view key) {
  const auto found = options.find(key);
  if (found == options.end()) return std::nullopt;
  std::optional<std::string> text = std::move(found->second.text);
  options.erase(found);
  return text;
}

Result<NodeFacts> take_node_facts(NameOptions& options) {
  NodeFacts facts;
  ASSIGN_OR_RETURN(facts.cache.direct, take_switch(options, "cache.direct"));
  ASSIGN_OR_RETURN(facts.cache.no_flush, take_switch(options, "cache.no-flush"));
  ASSIGN_OR_RETURN(const std::optional<bool> is_read_only, take_switch(options, "read-only"));
  facts.is_read_only = is_read_only == true;
  facts.is_writable = is_read_only == false;
  RETURN_IF_ERROR(take_switch(options, "auto-read-only"));
  ASSIGN_OR_RETURN(const std::optional<bool> force_share, take_switch(options, "force-share"));
  facts.force_share = force_share == true;
  RETURN_IF_ERROR(take_guest_options(options));
  RETURN_IF_ERROR(take_node_name(options));
  return facts;
}

Result<void> take_null_tuning(NameOptions& options) { return take_tuning(options, kNullTuning); }

Result<void> take_file_tuning(NameOptions& options) {
  RETURN_IF_ERROR(take_tuning(options, kFileTuning));
  const std::optional<std::string> manager = take_text(options, "pr-manager");
  if (!manager) return ok();
  return Error(EINVAL, fmt::format("No persistent reservation manager with id '{}'", *manager));
}

Result<void> take_format_tuning(NameOptions& options, std::string_view format) {
  if (format != "qcow2") return ok();
  RETURN_IF_ERROR(take_tuning(options, kQcow2Tuning));
  return take_overlap_checks(options);
}

}  // namespace imgconv
