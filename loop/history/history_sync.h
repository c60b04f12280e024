// The synchronisation policy of loop/history/: that of loop/sync.h with the operations that QEMU's
// protocols are made of. NativeSync is the machine as it is; armv8_sync.h, and in tests/ a recorder
// and the Relacy checker, are the same set of names.
//
// Beside the names of StdSync a policy has: fence(order); sync_fetch_or(word, bits), GCC's __sync
// builtin, a full barrier; mb_set(word, value), QEMU's store followed by a full barrier; relax(),
// one turn of a spinning thread; and leave(), the end of a side: what it stored becomes visible.
#pragma once

#include <sched.h>

#include <atomic>

#include "loop/sync.h"

namespace imgconv::history {

struct NativeSync : StdSync {
  using StdSync::fence;

  static void fence(std::memory_order order) { std::atomic_thread_fence(order); }

  template <class T>
  static T sync_fetch_or(std::atomic<T>& word, T bits) {
    const T before = word.fetch_or(bits, std::memory_order_seq_cst);
    if constexpr (!kRmwIsFullFence) fence(std::memory_order_seq_cst);
    return before;
  }

  template <class T>
  static void mb_set(std::atomic<T>& word, T value) {
    if constexpr (kRmwIsFullFence) {
      word.exchange(value, std::memory_order_seq_cst);
    } else {
      word.store(value, std::memory_order_release);
      fence(std::memory_order_seq_cst);
    }
  }

  static void relax() { sched_yield(); }
  static void leave() {}

 private:
  // A LOCKed instruction is one (Intel SDM vol. 3, 9.2.3.9). An STLXR is not: that is the bug.
#if defined(__x86_64__) || defined(__i386__)
  static constexpr bool kRmwIsFullFence = true;
#else
  static constexpr bool kRmwIsFullFence = false;
#endif
};

}  // namespace imgconv::history
