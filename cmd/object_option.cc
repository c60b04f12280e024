#include "cmd/object_option.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string_view>

#include "engine/json_name.h"
#include "engine/option_pieces.h"
#include "loop/try.h"

namespace imgconv {
namespace {

constexpr std::string_view kTypeKey = "qom-type";
constexpr std::array<std::string_view, 6> kSecretKeys = {"id",     "data",  "file",
                                                         "format", "keyid", "iv"};

/// By key; nothing stands for a value that is no text.
using Properties = std::map<std::string, std::optional<std::string>, std::less<>>;

Error no_such_type(std::string_view type) {
  return Error(EINVAL, fmt::format("Parameter '{}' does not accept value '{}'", kTypeKey, type));
}

/// {"qom-type": "secret", ...}. The words of a syntax error are those of a json: name, without
/// what comes before them there.
Result<Properties> parse_json(const std::string& text) {
  Result<NameOptions> options = parse_json_options(text);
  if (!options) {
    const std::string& said = options.error().text();
    const size_t colon = said.find(": ");
    return Error(EINVAL, said.substr(colon == std::string::npos ? 0 : colon + 2));
  }
  Properties properties;
  for (const auto& [key, value] : *options) {
    properties[key] = value.is_number ? std::nullopt : value.text;
  }
  return properties;
}

/// secret,id=s,data=x: a first piece without a key is the type.
Properties parse_pieces(const std::string& text) {
  Properties properties;
  const std::vector<OptionPiece> pieces = split_option_pieces(text);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const bool is_type = i == 0 && pieces[i].text.find('=') == std::string_view::npos;
    if (is_type && pieces[i].name.empty()) continue;
    properties[is_type ? std::string(kTypeKey) : pieces[i].name] =
        is_type ? pieces[i].name : pieces[i].value;
  }
  return properties;
}

bool is_identifier(std::string_view id) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return !id.empty() && is_letter(id.front()) && std::ranges::all_of(id, [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
}

Result<void> check_base64(std::string_view text) {
  constexpr std::string_view kValid =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n";
  if (text.find_first_not_of(kValid) == std::string_view::npos) return ok();
  return Error(EINVAL, "Base64 data contains invalid characters");
}

Result<void> check_file(const std::string& name, bool is_base64) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(name.c_str(), "rbe"),
                                                             std::fclose);
  if (!file) {
    return Error(errno, fmt::format("Unable to read {0}: Failed to open file “{0}”: {1}", name,
                                    std::strerror(errno)));
  }
  std::array<char, 4096> buffer{};
  while (const size_t length = std::fread(buffer.data(), 1, buffer.size(), file.get())) {
    if (is_base64) RETURN_IF_ERROR(check_base64(std::string_view(buffer.data(), length)));
  }
  if (std::ferror(file.get()) == 0) return ok();
  return Error(errno, fmt::format("Unable to read {0}: Error reading file “{0}”: {1}", name,
                                  std::strerror(errno)));
}

/// What is wrong with a value by itself.
Result<void> check_values(const Properties& secret) {
  if (!secret.contains("id")) return Error(EINVAL, "Parameter 'id' is missing");
  for (const auto& [key, value] : secret) {
    const bool is_known = std::ranges::find(kSecretKeys, key) != kSecretKeys.end();
    if (!is_known || value) continue;
    return Error(EINVAL, fmt::format("Invalid parameter type for '{}', expected: string", key));
  }
  const auto format = secret.find("format");
  if (format != secret.end() && *format->second != "raw" && *format->second != "base64") {
    return Error(EINVAL,
                 fmt::format("Parameter 'format' does not accept value '{}'", *format->second));
  }
  for (const auto& [key, value] : secret) {
    if (std::ranges::find(kSecretKeys, key) == kSecretKeys.end()) {
      return Error(EINVAL, fmt::format("Parameter '{}' is unexpected", key));
    }
  }
  if (is_identifier(*secret.find("id")->second)) return ok();
  return Error(EINVAL, "Parameter 'id' expects an identifier")
      .with_hint("Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.");
}

Result<void> check_secret(const Properties& secret) {
  RETURN_IF_ERROR(check_values(secret));
  const auto file = secret.find("file");
  const auto data = secret.find("data");
  const auto format = secret.find("format");
  const bool is_base64 = format != secret.end() && *format->second == "base64";
  if (file != secret.end() && data != secret.end()) {
    return Error(EINVAL, "'file' and 'data' are mutually exclusive");
  }
  if (file != secret.end()) return check_file(*file->second, is_base64);
  if (data == secret.end()) return Error(EINVAL, "Either 'file' or 'data' must be provided");
  return is_base64 ? check_base64(*data->second) : ok();
}

}  // namespace

Result<void> check_object(const std::string& text) {
  Properties properties;
  if (text.starts_with('{')) {
    ASSIGN_OR_RETURN(properties, parse_json(text));
  } else {
    properties = parse_pieces(text);
  }
  const auto type = properties.find(kTypeKey);
  if (type == properties.end()) return Error(EINVAL, "Parameter 'qom-type' is missing");
  if (type->second != "secret") return no_such_type(type->second.value_or(""));
  properties.erase(type);
  return check_secret(properties);
}

}  // namespace imgconv
