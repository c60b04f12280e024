// Catch matchers for Result: REQUIRE_THAT(result, IsOk()), FailsWith(ENOSPC, "part of the text").
#pragma once

#include <catch2/catch.hpp>
#include <string>

#include "loop/result.h"

namespace imgconv::test {

/// Errno and text of a failure, or "ok".
template <class T>
std::string describe(const Result<T>& result) {
  if (result) return "ok";
  return errno_text(result.error().code()) + ", \"" + result.error().text() + "\"";
}

class IsOk {
 public:
  template <class T>
  bool match(const Result<T>& result) const {
    return result.has_value();
  }
  std::string toString() const { return "is ok"; }
};

/// The errno value is equal and the text contains `part`.
class FailsWith {
 public:
  explicit FailsWith(int errno_value, std::string part = "")
      : errno_value_(errno_value), part_(std::move(part)) {}

  template <class T>
  bool match(const Result<T>& result) const {
    return !result && result.error().code() == errno_value_ &&
           result.error().text().find(part_) != std::string::npos;
  }
  std::string toString() const {
    return "fails with " + errno_text(errno_value_) + ", \"" + part_ + "\"";
  }

 private:
  const int errno_value_;
  const std::string part_;
};

/// The whole text is `text`, whatever the errno value.
class FailsSaying {
 public:
  explicit FailsSaying(std::string text) : text_(std::move(text)) {}

  template <class T>
  bool match(const Result<T>& result) const {
    return !result && result.error().text() == text_;
  }
  std::string toString() const { return "fails saying \"" + text_ + "\""; }

 private:
  const std::string text_;
};

}  // namespace imgconv::test

namespace Catch {
template <class T>
struct StringMaker<imgconv::Result<T>> {
  static std::string convert(const imgconv::Result<T>& result) {
    return imgconv::test::describe(result);
  }
};
}  // namespace Catch
