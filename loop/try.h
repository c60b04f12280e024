// The only macros of the code: leave the function when a Result holds an error. The CO_ forms are
// for coroutines; they may contain one co_await, which then stands alone in its statement.
#pragma once

#include <utility>

#include "loop/result.h"

#define IMGCONV_CONCAT_(a, b) a##b
#define IMGCONV_CONCAT(a, b) IMGCONV_CONCAT_(a, b)

#define IMGCONV_RETURN_IF_ERROR_(leave, result, expr)               \
  do {                                                              \
    auto result = (expr);                                           \
    if (!result) leave ::imgconv::Error(std::move(result).error()); \
  } while (false)

#define IMGCONV_ASSIGN_OR_RETURN_(leave, result, declaration, expr) \
  auto result = (expr);                                             \
  if (!result) leave ::imgconv::Error(std::move(result).error());   \
  declaration = std::move(*result)

#define RETURN_IF_ERROR(expr) \
  IMGCONV_RETURN_IF_ERROR_(return, IMGCONV_CONCAT(result_, __LINE__), expr)
#define CO_RETURN_IF_ERROR(expr) \
  IMGCONV_RETURN_IF_ERROR_(co_return, IMGCONV_CONCAT(result_, __LINE__), expr)
#define ASSIGN_OR_RETURN(declaration, expr) \
  IMGCONV_ASSIGN_OR_RETURN_(return, IMGCONV_CONCAT(result_, __LINE__), declaration, expr)
#define CO_ASSIGN_OR_RETURN(declaration, expr) \
  IMGCONV_ASSIGN_OR_RETURN_(co_return, IMGCONV_CONCAT(result_, __LINE__), declaration, expr)
