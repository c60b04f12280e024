#include "cmd/json_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string_view>
#include <variant>

#include "engine/json_string.h"

namespace imgconv {

namespace {

constexpr size_t kIndent = 4;

/// Which of the 512 buckets of a QEMU dictionary holds the key (CLI.md 1.10).
uint32_t bucket_of(std::string_view key) {
  uint32_t value = 0x238F13AFu * static_cast<uint32_t>(key.size());
  for (size_t i = 0; i < key.size(); ++i) {
    // A signed char in the original: keys beyond ASCII do not occur.
    value += static_cast<uint32_t>(static_cast<unsigned char>(key[i])) << (i * 5 % 24);
  }
  return (1103515243u * value + 12345u) % 512u;
}

class JsonWriter {
 public:
  std::string take() { return std::move(text_); }

  void write(const InfoValue& value) {
    std::visit([this](const auto& alternative) { write_alternative(alternative); }, value.value);
  }

 private:
  void write_alternative(bool value) { text_ += value ? "true" : "false"; }
  void write_alternative(int64_t value) { fmt::format_to(std::back_inserter(text_), "{}", value); }
  void write_alternative(uint64_t value) { fmt::format_to(std::back_inserter(text_), "{}", value); }
  void write_alternative(double value) { fmt::format_to(std::back_inserter(text_), "{}", value); }
  void write_alternative(const std::string& value) { text_ += json_string(value); }

  void write_alternative(const InfoValue::Array& array) {
    open('[');
    for (const InfoValue& element : array) {
      begin_element();
      write(element);
    }
    close(']');
  }

  void write_alternative(const InfoValue::Object& object) {
    open('{');
    for (const InfoValue::Member* member : in_qemu_order(object)) {
      begin_element();
      text_ += json_string(member->first);
      text_ += ": ";
      write(member->second);
    }
    close('}');
  }

  void open(char bracket) {
    text_ += bracket;
    ++depth_;
    is_first_ = true;
  }

  void begin_element() {
    if (!is_first_) text_ += ',';
    new_line();
    is_first_ = false;
  }

  void close(char bracket) {
    --depth_;
    new_line();
    text_ += bracket;
    is_first_ = false;
  }

  void new_line() {
    text_ += '\n';
    text_.append(depth_ * kIndent, ' ');
  }

  std::string text_;
  size_t depth_ = 0;
  bool is_first_ = true;
};

}  // namespace

std::vector<const InfoValue::Member*> in_qemu_order(const InfoValue::Object& object) {
  std::vector<const InfoValue::Member*> members;
  members.reserve(object.size());
  // Backwards, because the last inserted comes first within a bucket.
  for (auto member = object.rbegin(); member != object.rend(); ++member) {
    members.push_back(&*member);
  }
  std::stable_sort(members.begin(), members.end(), [](const auto* a, const auto* b) {
    return bucket_of(a->first) < bucket_of(b->first);
  });
  return members;
}

void add_member(InfoValue::Object& object, const char* key, decltype(InfoValue::value) value) {
  object.emplace_back(key, InfoValue{}).second.value = std::move(value);
}

std::string to_json(const InfoValue& value) {
  JsonWriter writer;
  writer.write(value);
  return writer.take();
}

}  // namespace imgconv
