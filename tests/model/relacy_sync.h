// RelacySync: the synchronisation policy of loop/sync.h over the Relacy checker, which runs threads
// as fibers, chooses every switch, lets relaxed loads return old values, and reports races on
// Shared data, deadlocks, leaks and failed asserts.
//
// Include it before any other header of ours: Relacy defines macros that must be undone first.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <utility>

#include <relacy/relacy.hpp>

#undef $
#undef assert
#undef calloc
#undef delete
#undef errno
#undef free
#undef malloc
#undef memory_order_acq_rel
#undef memory_order_acquire
#undef memory_order_consume
#undef memory_order_relaxed
#undef memory_order_release
#undef memory_order_seq_cst
#undef new
#undef realloc
#undef sched_yield

#include "loop/sync.h"

namespace imgconv::model {

/// The place that the present run weakens; none in a run of the code as shipped.
inline std::optional<Site> weakened_site;

inline constexpr rl::thread_id_t kMaxThreads = 4;

inline rl::debug_info info_of(const std::source_location& where) {
  return {where.function_name(), where.file_name(), where.line()};
}

struct RelacySync {
  static constexpr rl::memory_order relacy_order(std::memory_order order) {
    switch (order) {
      case std::memory_order_relaxed:
        return rl::mo_relaxed;
      case std::memory_order_consume:
        return rl::mo_consume;
      case std::memory_order_acquire:
        return rl::mo_acquire;
      case std::memory_order_release:
        return rl::mo_release;
      case std::memory_order_acq_rel:
        return rl::mo_acq_rel;
      case std::memory_order_seq_cst:
        return rl::mo_seq_cst;
    }
    return rl::mo_seq_cst;
  }

  template <class T>
  class Atomic {
    using Where = std::source_location;

   public:
    explicit(false) Atomic(T value) : value_(value) {}

    T load(std::memory_order order, Where where = Where::current()) const {
      return value_.load(relacy_order(order), info_of(where));
    }
    void store(T value, std::memory_order order, Where where = Where::current()) {
      value_.store(value, relacy_order(order), info_of(where));
    }
    T exchange(T value, std::memory_order order, Where where = Where::current()) {
      return value_.exchange(value, relacy_order(order), info_of(where));
    }
    T fetch_or(T value, std::memory_order order, Where where = Where::current()) {
      return value_.fetch_or(value, relacy_order(order), info_of(where));
    }
    T fetch_and(T value, std::memory_order order, Where where = Where::current()) {
      return value_.fetch_and(value, relacy_order(order), info_of(where));
    }
    T fetch_add(T value, std::memory_order order, Where where = Where::current()) {
      return value_.fetch_add(value, relacy_order(order), info_of(where));
    }
    T fetch_sub(T value, std::memory_order order, Where where = Where::current()) {
      return value_.fetch_sub(value, relacy_order(order), info_of(where));
    }
    bool compare_exchange_weak(T& expected, T desired, std::memory_order success,
                               std::memory_order failure, Where where = Where::current()) {
      const rl::debug_info info = info_of(where);
      return value_.compare_exchange_weak(expected, desired, relacy_order(success), info,
                                          relacy_order(failure), info);
    }
    bool compare_exchange_strong(T& expected, T desired, std::memory_order success,
                                 std::memory_order failure, Where where = Where::current()) {
      const rl::debug_info info = info_of(where);
      return value_.compare_exchange_strong(expected, desired, relacy_order(success), info,
                                            relacy_order(failure), info);
    }

   private:
    friend struct RelacySync;
    rl::atomic<T> value_;
    rl::waitset<kMaxThreads> sleepers_;
  };

  /// Data that must be handed over with a happens-before; any other access is reported as a race.
  template <class T>
  class Shared {
   public:
    explicit(false) Shared(T value) : value_(value) {}
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    Shared& operator=(T value) {
      value_(info_of(std::source_location::current())).store(value);
      return *this;
    }
    explicit(false) operator T() const {
      return value_(info_of(std::source_location::current())).load();
    }

   private:
    rl::var<T> value_;
  };

  static std::memory_order at(Site site, std::memory_order order) {
    return site == weakened_site ? std::memory_order_relaxed : order;
  }
  static std::memory_order at(Site acquire_site, Site release_site) {
    if (acquire_site == weakened_site) return std::memory_order_release;
    if (release_site == weakened_site) return std::memory_order_acquire;
    return std::memory_order_acq_rel;
  }

  static void fence(std::memory_order order, Site site,
                    std::source_location where = std::source_location::current()) {
    if (site != weakened_site) rl::atomic_thread_fence(relacy_order(order), info_of(where));
  }

  /// Compares with the newest value and goes to sleep in one step, as the kernel does under its
  /// lock. It synchronises nothing: a protocol may not lean on what a kernel happens to order.
  static void futex_wait(Atomic<uint32_t>& word, uint32_t expected,
                         std::source_location where = std::source_location::current()) {
    rl::ctx().sched();
    if (word.value_.debug_value() != expected) return;
    word.sleepers_.park_current(rl::ctx(), false, true, false, info_of(where));
  }
  static void futex_wake_all(Atomic<uint32_t>& word,
                             std::source_location where = std::source_location::current()) {
    rl::ctx().sched();
    word.sleepers_.unpark_all(rl::ctx(), info_of(where));
  }
};

}  // namespace imgconv::model
