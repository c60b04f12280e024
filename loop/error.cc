#include "loop/error.h"

#include <cstring>
#include <string>
#include <utility>

#include "loop/messages_before.h"

namespace imgconv {

Error::Error(int errno_value, std::string text)
    : rep_(std::make_unique<Rep>(Rep{errno_value, std::move(text), {}})) {}

Error Error::from_errno(int errno_value, std::string_view context) {
  std::string text = errno_text(errno_value);
  if (!context.empty()) text = std::string(context) + ": " + text;
  return Error(errno_value, std::move(text));
}

Error::Error(const Error& other) : rep_(std::make_unique<Rep>(*other.rep_)) {}

Error& Error::operator=(const Error& other) {
  if (this != &other) rep_ = std::make_unique<Rep>(*other.rep_);
  return *this;
}

int Error::code() const { return rep_->code; }
const std::string& Error::text() const { return rep_->text; }
const std::string& Error::hint() const { return rep_->hint; }

Error Error::within(std::string_view context) && {
  // Messages in front of the last one stand for themselves.
  const size_t last = rep_->text.rfind(kMessageEnd) + 1;
  rep_->text.insert(last, std::string(context) + ": ");
  return std::move(*this);
}

Error Error::with_hint(std::string hint) && {
  rep_->hint = std::move(hint);
  return std::move(*this);
}

Error preceded_by(Error error, std::string_view message) {
  return Error(error.code(), std::string(message) + kMessageEnd + error.text())
      .with_hint(error.hint());
}

std::string errno_text(int errno_value) {
  const char* description = strerrordesc_np(errno_value);
  if (description == nullptr) return "Unknown error " + std::to_string(errno_value);
  return description;
}

}  // namespace imgconv
