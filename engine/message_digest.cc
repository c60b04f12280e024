#include "engine/message_digest.h"

#include <dlfcn.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "loop/out_of_memory.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// Of the library's own making.
struct Algorithm;
struct Context;

constexpr const char* kLibrary = "libcrypto.so.3";
/// EVP_MAX_MD_SIZE.
constexpr size_t kMaxDigestBytes = 64;

/// The functions of libcrypto that are used here, as openssl/evp.h declares them. The header would
/// be needed by every build, for seven functions of an interface that has been stable since 1.1.0.
struct Crypto {
  const Algorithm* (*get_digest)(const char* name) = nullptr;
  Context* (*new_context)() = nullptr;
  void (*free_context)(Context*) = nullptr;
  int (*init)(Context*, const Algorithm*, void* engine) = nullptr;
  int (*update)(Context*, const void* bytes, size_t length) = nullptr;
  int (*final)(Context*, unsigned char* value, unsigned* length) = nullptr;
};

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function != nullptr;
}

// The library crashes in places when it gets no memory.
void* allocate(size_t size, const char* /*file*/, int /*line*/) {
  void* const memory = std::malloc(size);
  if (memory == nullptr && size > 0) out_of_memory();
  return memory;
}
void* reallocate(void* old, size_t size, const char* /*file*/, int /*line*/) {
  void* const memory = std::realloc(old, size);
  if (memory == nullptr && size > 0) out_of_memory();
  return memory;
}
void release(void* memory, const char* /*file*/, int /*line*/) { std::free(memory); }

/// CRYPTO_set_mem_functions(). Refused, with 0, after the library's first allocation.
using SetAllocator = int (*)(decltype(&allocate), decltype(&reallocate), decltype(&release));

Result<Crypto> load_crypto() {
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return Error(ENOTSUP, fmt::format("Digests need OpenSSL: {}", ::dlerror()));
  }
  Crypto crypto;
  SetAllocator set_allocator = nullptr;
  const bool is_complete = find(library, "EVP_get_digestbyname", crypto.get_digest) &&
                           find(library, "EVP_MD_CTX_new", crypto.new_context) &&
                           find(library, "EVP_MD_CTX_free", crypto.free_context) &&
                           find(library, "EVP_DigestInit_ex", crypto.init) &&
                           find(library, "EVP_DigestUpdate", crypto.update) &&
                           find(library, "EVP_DigestFinal_ex", crypto.final) &&
                           find(library, "CRYPTO_set_mem_functions", set_allocator);
  if (!is_complete) return Error(ENOTSUP, fmt::format("{} is no OpenSSL", kLibrary));
  set_allocator(allocate, reallocate, release);
  return crypto;
}

/// Stays loaded until the process ends.
const Result<Crypto>& crypto() {
  static const Result<Crypto> loaded = load_crypto();
  return loaded;
}

}  // namespace

struct MessageDigest::State {
  State(const Crypto& library, const Algorithm* digest)
      : functions(library), algorithm(digest), context(functions.new_context()) {
    restart();
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { functions.free_context(context); }

  void restart() { is_sound = functions.init(context, algorithm, nullptr) == 1; }

  const Crypto& functions;
  const Algorithm* const algorithm;
  Context* const context;
  bool is_sound = false;
};

MessageDigest::MessageDigest(std::unique_ptr<State> state) : state_(std::move(state)) {}
MessageDigest::MessageDigest(MessageDigest&&) noexcept = default;
MessageDigest& MessageDigest::operator=(MessageDigest&&) noexcept = default;
MessageDigest::~MessageDigest() = default;

Result<MessageDigest> MessageDigest::make(const std::string& algorithm) {
  if (!crypto()) return crypto().error();
  const Algorithm* const digest = crypto()->get_digest(algorithm.c_str());
  auto state = digest == nullptr ? nullptr : std::make_unique<State>(*crypto(), digest);
  // Algorithms that the library knows by name only (its legacy provider's) cannot be started.
  if (state == nullptr || !state->is_sound) {
    return Error(EINVAL, fmt::format("Unknown digest algorithm '{}'", algorithm));
  }
  return MessageDigest(std::move(state));
}

void MessageDigest::add(std::span<const std::byte> bytes) {
  state_->is_sound &= state_->functions.update(state_->context, bytes.data(), bytes.size()) == 1;
  assert(state_->is_sound);
}

void MessageDigest::add_zeros(uint64_t length) {
  static constexpr std::array<std::byte, 16 * kKiB> kZeros{};
  while (length > 0) {
    const uint64_t part = std::min<uint64_t>(length, kZeros.size());
    add(std::span(kZeros).first(part));
    length -= part;
  }
}

std::vector<std::byte> MessageDigest::finish() {
  std::vector<std::byte> value(kMaxDigestBytes);
  unsigned length = 0;
  state_->is_sound &=
      state_->functions.final(state_->context, reinterpret_cast<unsigned char*>(value.data()),
                              &length) == 1;
  assert(state_->is_sound);
  value.resize(length);
  state_->restart();
  return value;
}

std::string to_hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

}  // namespace imgconv
