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

/// How many bytes the text stands for.
Result<size_t> base64_length(std::string_view text) {
  constexpr std::string_view kValid =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n";
  if (text.find_first_not_of(kValid) != std::string_view::npos) {
    return Error(EINVAL, "Base64 data contains invalid characters");
  }
  const auto digits = std::ranges::count_if(text, [](char c) { return c != '=' && c != '\n'; });
  return static_cast<size_t>(digits) * 3 / 4;
}

Result<std::string> read_file(const std::string& name) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(name.c_str(), "rbe"),
                                                             std::fclose);
  if (!file) {
    return Error(errno, fmt::format("Unable to read {0}: Failed to open file “{0}”: {1}", name,
                                    std::strerror(errno)));
  }
  std::string content;
  std::array<char, 4096> buffer{};
  while (const size_t length = std::fread(buffer.data(), 1, buffer.size(), file.get())) {
    content.append(buffer.data(), length);
  }
  if (std::ferror(file.get()) == 0) return content;
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

std::optional<std::string_view> value_of(const Properties& secret, std::string_view key) {
  const auto found = secret.find(key);
  if (found == secret.end()) return std::nullopt;
  return *found->second;
}

/// The bytes of the secret as it is given, encrypted or not.
Result<size_t> stored_length(const Properties& secret) {
  const std::optional<std::string_view> file = value_of(secret, "file");
  const std::optional<std::string_view> data = value_of(secret, "data");
  if (file && data) return Error(EINVAL, "'file' and 'data' are mutually exclusive");
  if (!file && !data) return Error(EINVAL, "Either 'file' or 'data' must be provided");
  std::string text(data.value_or(""));
  if (file) {
    ASSIGN_OR_RETURN(text, read_file(std::string(*file)));
  }
  if (value_of(secret, "format") != "base64") return text.size();
  return base64_length(text);
}

/// Is an encrypted secret one that AES-256 could decrypt with this key?
Result<void> check_encryption(const Properties& secret, size_t key_length, size_t length) {
  constexpr size_t kKeyLength = 32;
  constexpr size_t kBlockLength = 16;
  if (key_length != kKeyLength) return Error(EINVAL, "Key should be 32 bytes in length");
  const std::optional<std::string_view> iv = value_of(secret, "iv");
  if (!iv) return Error(EINVAL, "IV is required to decrypt secret");
  ASSIGN_OR_RETURN(const size_t iv_length, base64_length(*iv));
  if (iv_length != kBlockLength) {
    return Error(EINVAL, fmt::format("IV should be 16 bytes in length not {}", iv_length));
  }
  if (length % kBlockLength == 0) return ok();
  return Error(EINVAL, fmt::format("Length {} must be a multiple of block size 16", length));
}

}  // namespace

Result<void> SecretObjects::add(const std::string& text) {
  Properties secret;
  if (text.starts_with('{')) {
    ASSIGN_OR_RETURN(secret, parse_json(text));
  } else {
    secret = parse_pieces(text);
  }
  const auto type = secret.find(kTypeKey);
  if (type == secret.end()) return Error(EINVAL, "Parameter 'qom-type' is missing");
  if (type->second != "secret") return no_such_type(type->second.value_or(""));
  secret.erase(type);
  RETURN_IF_ERROR(check_values(secret));
  const std::string id(*value_of(secret, "id"));
  if (lengths_.contains(id)) {
    return Error(EINVAL, fmt::format("attempt to add duplicate property '{}' to object (type "
                                     "'container')",
                                     id));
  }
  ASSIGN_OR_RETURN(const size_t length, stored_length(secret));
  if (const std::optional<std::string_view> key_id = value_of(secret, "keyid")) {
    const auto key = lengths_.find(*key_id);
    if (*key_id == id) {
      return Error(EINVAL, fmt::format("Secret with id '{}' has no data", id));
    }
    if (key == lengths_.end()) {
      return Error(EINVAL, fmt::format("No secret with id '{}'", *key_id));
    }
    RETURN_IF_ERROR(check_encryption(secret, key->second, length));
  }
  lengths_.emplace(id, length);
  return ok();
}

}  // namespace imgconv
