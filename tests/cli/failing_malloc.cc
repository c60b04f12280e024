// A library for LD_PRELOAD: from the Nth allocation on there is no memory. $IMGCONV_ALLOCATIONS is
// N; without it there always is. Of imgconv alone, not of programs that run it. For
// tests/cli/memory.py.
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <string_view>

// What glibc keeps for those who replace malloc().
extern "C" {
void* __libc_malloc(size_t);            // NOLINT(bugprone-reserved-identifier)
void* __libc_calloc(size_t, size_t);    // NOLINT(bugprone-reserved-identifier)
void* __libc_realloc(void*, size_t);    // NOLINT(bugprone-reserved-identifier)
void* __libc_memalign(size_t, size_t);  // NOLINT(bugprone-reserved-identifier)
}

namespace {

// 0: there always is memory. Set before main(), so that the start of the program is not counted.
std::atomic<long> allocations_left{0};

[[gnu::constructor]] void read_environment() {
  const std::string_view name = program_invocation_short_name;
  const char* const asked = std::getenv("IMGCONV_ALLOCATIONS");
  if (asked == nullptr || (name != "imgconv" && name != "qemu-img")) return;
  allocations_left.store(std::atol(asked));
}

bool is_refused() {
  long left = allocations_left.load(std::memory_order_relaxed);
  // 1 stays: the Nth allocation and all that follow are refused.
  while (left > 1 && !allocations_left.compare_exchange_weak(left, left - 1)) {
  }
  if (left != 1) return false;
  errno = ENOMEM;
  return true;
}

}  // namespace

extern "C" {

void* malloc(size_t size) { return is_refused() ? nullptr : __libc_malloc(size); }
void* calloc(size_t count, size_t size) {
  return is_refused() ? nullptr : __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) { return is_refused() ? nullptr : __libc_realloc(old, size); }
void* aligned_alloc(size_t alignment, size_t size) {
  return is_refused() ? nullptr : __libc_memalign(alignment, size);
}

}  // extern "C"
