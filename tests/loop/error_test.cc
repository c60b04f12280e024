#include "loop/error.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <utility>

#include "loop/result.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return Error(EINVAL, "odd");
  return value / 2;
}

Result<int> quarter(int value) {
  ASSIGN_OR_RETURN(const int once, half(value));
  ASSIGN_OR_RETURN(const int twice, half(once));
  return twice;
}

}  // namespace

TEST_CASE("Error: errno and context become one text", "[loop][error]") {
  CHECK(Error::from_errno(ENOENT).text() == "No such file or directory");
  const Error error = Error::from_errno(ENOENT, "Could not open 'x'");
  CHECK(error.text() == "Could not open 'x': No such file or directory");
  CHECK(error.code() == ENOENT);
}

TEST_CASE("Error: context goes in front and the hint stays", "[loop][error]") {
  const Error error =
      Error(EAGAIN, "locked").with_hint("Who else?").within("inner").within("outer");
  CHECK(error.text() == "outer: inner: locked");
  CHECK(error.hint() == "Who else?");
  CHECK(error.code() == EAGAIN);
}

TEST_CASE("Error: a copy is independent", "[loop][error]") {
  Error original(EIO, "text");
  const Error copy = original;
  original = std::move(original).within("context");
  CHECK(copy.text() == "text");
  CHECK(original.text() == "context: text");
}

TEST_CASE("Result: the macros leave at the first error", "[loop][result]") {
  CHECK(quarter(12).value() == 3);
  CHECK_FALSE(quarter(6).has_value());
  CHECK(quarter(6).error().text() == "odd");
}

TEST_CASE("Units: checked sums and products refuse to wrap", "[loop][units]") {
  CHECK(checked_add(1, 2) == 3U);
  CHECK_FALSE(checked_add(UINT64_MAX, 1).has_value());
  CHECK(checked_mul(kGiB, 4) == 4 * kGiB);
  CHECK_FALSE(checked_mul(kTiB, kTiB).has_value());
}

TEST_CASE("Units: rounding", "[loop][units]") {
  CHECK(round_down(4097, 4096) == 4096);
  CHECK(round_up(4097, 4096) == 8192);
  CHECK(round_up(UINT64_MAX - 4095, 4096) == UINT64_MAX - 4095);
  CHECK(div_round_up(UINT64_MAX, 2) == (uint64_t{1} << 63));
}

}  // namespace imgconv
