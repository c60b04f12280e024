// Result<T>: a value or an Error. The only file that names tl::expected; its names are those of
// std::expected, so a later C++23 replaces this header alone. Unlike the library's class it is
// [[nodiscard]]: a failure that nobody looks at is how a copy tool corrupts data silently.
#pragma once

#include <tl/expected.hpp>
#include <type_traits>
#include <utility>

#include "loop/error.h"

namespace imgconv {

template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using Base = tl::expected<T, Error>;
  using Base::Base;
  Result(Error error) : Base(tl::unexpect, std::move(error)) {}
};

template <>
class [[nodiscard]] Result<void> : public tl::expected<void, Error> {
 public:
  using Base = tl::expected<void, Error>;
  Result() = default;
  Result(Error error) : Base(tl::unexpect, std::move(error)) {}
};

inline Result<void> ok() { return {}; }

}  // namespace imgconv
