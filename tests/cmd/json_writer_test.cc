#include "cmd/json_writer.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace imgconv {

namespace {

std::vector<std::string> keys_in_order(const std::vector<std::string>& inserted) {
  InfoValue::Object object;
  for (const std::string& key : inserted) object.emplace_back(key, InfoValue{true});
  std::vector<std::string> keys;
  for (const InfoValue::Member* member : in_qemu_order(object)) keys.push_back(member->first);
  return keys;
}

std::string json_of(std::string string) { return to_json(InfoValue{std::move(string)}); }

}  // namespace

TEST_CASE("JSON: members come in the order of QEMU's hash table", "[cmd]") {
  // Orders as printed by qemu-img 10.0.2.
  CHECK(keys_in_order({"allocated-clusters", "check-errors", "filename", "format",
                       "fragmented-clusters", "image-end-offset", "total-clusters"}) ==
        std::vector<std::string>{"image-end-offset", "total-clusters", "check-errors",
                                 "allocated-clusters", "filename", "format",
                                 "fragmented-clusters"});
  CHECK(keys_in_order({"id", "name", "icount", "date-sec", "date-nsec", "vm-clock-sec",
                       "vm-clock-nsec", "vm-state-size"}) ==
        std::vector<std::string>{"icount", "vm-clock-nsec", "name", "date-sec", "date-nsec",
                                 "vm-clock-sec", "id", "vm-state-size"});
}

TEST_CASE("JSON: in one bucket the last inserted member comes first", "[cmd]") {
  CHECK(keys_in_order({"same", "same"}).size() == 2);
  InfoValue::Object object;
  object.emplace_back("same", InfoValue{uint64_t{1}});
  object.emplace_back("same", InfoValue{uint64_t{2}});
  CHECK(to_json({object}) == "{\n    \"same\": 2,\n    \"same\": 1\n}");
}

TEST_CASE("JSON: nested values are indented by four blanks", "[cmd]") {
  InfoValue::Array numbers;
  numbers.push_back(InfoValue{uint64_t{18446744073709551615u}});
  numbers.push_back(InfoValue{int64_t{-1}});
  InfoValue::Object object;
  object.emplace_back("data", InfoValue{std::move(numbers)});
  CHECK(to_json({std::move(object)}) ==
        "{\n    \"data\": [\n        18446744073709551615,\n        -1\n    ]\n}");
}

TEST_CASE("JSON: an empty list has a line between its brackets", "[cmd]") {
  InfoValue::Object object;
  object.emplace_back("children", InfoValue{InfoValue::Array{}});
  CHECK(to_json({std::move(object)}) == "{\n    \"children\": [\n    ]\n}");
}

TEST_CASE("JSON: control characters, quotes and backslashes are escaped", "[cmd]") {
  CHECK(json_of("a\"b\\c\t\n\x01\x7f") == "\"a\\\"b\\\\c\\t\\n\\u0001\\u007F\"");
}

TEST_CASE("JSON: characters beyond ASCII become UTF-16 escapes", "[cmd]") {
  CHECK(json_of("\xc3\xa9") == "\"\\u00E9\"");
  CHECK(json_of("\xf0\x9f\x98\x80") == "\"\\uD83D\\uDE00\"");
}

TEST_CASE("JSON: invalid UTF-8 becomes the replacement character", "[cmd]") {
  CHECK(json_of("\xff!") == "\"\\uFFFD!\"");
  CHECK(json_of("\xc3(") == "\"\\uFFFD(\"");
  CHECK(json_of("\xe2\x82") == "\"\\uFFFD\"");
  CHECK(json_of("\xed\xa0\x80!") == "\"\\uFFFD!\"");
  CHECK(json_of("\xc0\xaf!") == "\"\\uFFFD!\"");
}

TEST_CASE("JSON: a fraction is printed with the digits that it has", "[cmd]") {
  CHECK(to_json(InfoValue{0.25}) == "0.25");
  CHECK(to_json(InfoValue{2e-7}) == "2e-07");
}

}  // namespace imgconv
