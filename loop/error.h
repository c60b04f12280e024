// Error: why something failed, as an errno value and a text in the style of qemu-img.
//
// Not an exception and not a status code table: below cmd/ every failure travels as an Error inside
// a Result (loop/result.h). One owning pointer, so that a Result<T> stays small and the happy path
// allocates nothing. Immutable but for within() and with_hint(), which consume it. Any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace imgconv {

class [[nodiscard]] Error {
 public:
  /// An error whose text is complete as given. `errno_value` > 0.
  Error(int errno_value, std::string text);
  /// "CONTEXT: strerror(errno_value)", or only the errno text when the context is empty.
  static Error from_errno(int errno_value, std::string_view context = {});

  Error(Error&&) noexcept = default;
  Error& operator=(Error&&) noexcept = default;
  Error(const Error& other);
  Error& operator=(const Error& other);
  ~Error() = default;

  /// errno value: EINVAL for bad image content, ENOTSUP for unsupported, else the system's.
  int code() const;
  /// The text, without program name and without newline.
  const std::string& text() const;
  /// A second line that is printed without the program's prefix; empty if there is none.
  const std::string& hint() const;

  /// Adds what only the caller knows in front: "CONTEXT: text". Keeps errno and hint.
  Error within(std::string_view context) &&;
  /// Adds the unprefixed second line.
  Error with_hint(std::string hint) &&;

 private:
  struct Rep {
    int code;
    std::string text;
    std::string hint;
  };
  std::unique_ptr<Rep> rep_;
};

/// strerror of the C locale, thread-safe.
std::string errno_text(int errno_value);

}  // namespace imgconv
