// MessageDigest: a checksum that is fed bytes, by any algorithm of OpenSSL's libcrypto.
//
// The library is loaded when the first digest is made (decision E14). An object is used by one
// thread at a time, whichever; the loading by the loop thread. Holds no bytes that it was fed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "loop/result.h"

namespace imgconv {

class MessageDigest {
 public:
  /// "Unknown digest algorithm 'NAME'", or why the library cannot be used.
  static Result<MessageDigest> make(const std::string& algorithm);

  MessageDigest(MessageDigest&&) noexcept;
  MessageDigest& operator=(MessageDigest&&) noexcept;
  ~MessageDigest();

  void add(std::span<const std::byte> bytes);
  /// As many zero bytes, out of the cache: about 1.7 GB/s for sha256 with the processor's help.
  void add_zeros(uint64_t length);
  /// The digest; the object begins anew.
  std::vector<std::byte> finish();

 private:
  struct State;
  explicit MessageDigest(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

/// Lower-case hexadecimal digits.
std::string to_hex(std::span<const std::byte> bytes);

}  // namespace imgconv
