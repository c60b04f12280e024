// Armv8Sync: the synchronisation policy on an emulated machine that shows what ARMv8 allows for
// atomics made of exclusive loads and stores, on any real one: a store, a store-release or the
// store half of a read-modify-write waits in its thread's buffer while later plain loads of that
// thread are satisfied. For the reproducer and tests; thousands of hand-offs per second, not
// millions. What it does is a part of what the explorer's armv8-llsc model allows (a test compares
// them); its stores travel by the rules below and its loads stay in program order.
//
// What orders what, with the instructions of loop/memory_model/mapping.cc:
//  - a thread sees its own waiting stores; stores to one word become visible in their order;
//  - a store-release becomes visible after everything before it, other stores in any order;
//  - DMB ISH, hence each fence but an acquire one, lets everything before it become visible;
//  - an acquire load (LDAR, LDAXR) lets the store-releases before it become visible;
//  - nothing comes between the halves of an exclusive pair: whoever else wants to write the word
//    waits for the waiting half, that is, makes it visible first.
//
// Any thread. A word must not be destroyed while a store to it waits: leave() before.
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

#include "loop/sync.h"

namespace imgconv::history {

namespace armv8 {

class Processor;

/// A word of the emulated memory. Guarded by the machine's lock.
struct Cell {
  uint64_t value = 0;
  /// Whose store half of a read-modify-write waits for this word to be written.
  Processor* exclusive_owner = nullptr;
};

enum class Operation : uint8_t { kExchange, kOr, kAnd, kAdd, kSubtract, kCompareExchange };

uint64_t load(const Cell& cell, std::memory_order order);
void store(Cell& cell, uint64_t value, std::memory_order order);
/// Returns what was there. `expected` is for kCompareExchange.
uint64_t read_modify_write(Cell& cell, Operation operation, uint64_t operand, uint64_t expected,
                           std::memory_order order);
void fence(std::memory_order order);
void leave();
void seed(uint64_t seed);

}  // namespace armv8

struct Armv8Sync {
  template <class T>
  class Atomic {
   public:
    explicit(false) Atomic(T value) : cell_{to_bits(value), nullptr} {}
    Atomic(const Atomic&) = delete;
    Atomic& operator=(const Atomic&) = delete;

    T load(std::memory_order order) const { return from_bits(armv8::load(cell_, order)); }
    void store(T value, std::memory_order order) { armv8::store(cell_, to_bits(value), order); }
    T exchange(T value, std::memory_order order) {
      return modify(armv8::Operation::kExchange, value, order);
    }
    T fetch_or(T value, std::memory_order order) {
      return modify(armv8::Operation::kOr, value, order);
    }
    T fetch_and(T value, std::memory_order order) {
      return modify(armv8::Operation::kAnd, value, order);
    }
    T fetch_add(T value, std::memory_order order) {
      return modify(armv8::Operation::kAdd, value, order);
    }
    T fetch_sub(T value, std::memory_order order) {
      return modify(armv8::Operation::kSubtract, value, order);
    }
    bool compare_exchange_strong(T& expected, T desired, std::memory_order success,
                                 std::memory_order /*failure*/) {
      const T before = from_bits(armv8::read_modify_write(
          cell_, armv8::Operation::kCompareExchange, to_bits(desired), to_bits(expected), success));
      if (before == expected) return true;
      expected = before;
      return false;
    }
    bool compare_exchange_weak(T& expected, T desired, std::memory_order success,
                               std::memory_order failure) {
      return compare_exchange_strong(expected, desired, success, failure);
    }

   private:
    static uint64_t to_bits(T value) {
      if constexpr (std::is_pointer_v<T>) {
        return reinterpret_cast<uintptr_t>(value);
      } else {
        return static_cast<uint64_t>(value);
      }
    }
    static T from_bits(uint64_t bits) {
      if constexpr (std::is_pointer_v<T>) {
        return reinterpret_cast<T>(static_cast<uintptr_t>(bits));
      } else {
        return static_cast<T>(bits);
      }
    }
    T modify(armv8::Operation operation, T value, std::memory_order order) {
      return from_bits(armv8::read_modify_write(cell_, operation, to_bits(value), 0, order));
    }

    armv8::Cell cell_;
  };

  template <class T>
  using Shared = T;

  static void fence(std::memory_order order) { armv8::fence(order); }
  static void fence(std::memory_order order, Site /*site*/) { armv8::fence(order); }
  static constexpr std::memory_order at(Site /*site*/, std::memory_order order) { return order; }
  static constexpr std::memory_order at(Site /*acquire_site*/, Site /*release_site*/) {
    return std::memory_order_acq_rel;
  }

  /// LDXR, STLXR, DMB ISH.
  template <class T>
  static T sync_fetch_or(Atomic<T>& word, T bits) {
    const T before = word.fetch_or(bits, std::memory_order_release);
    fence(std::memory_order_seq_cst);
    return before;
  }
  /// STLR, DMB ISH.
  template <class T>
  static void mb_set(Atomic<T>& word, T value) {
    word.store(value, std::memory_order_release);
    fence(std::memory_order_seq_cst);
  }

  static void relax();
  /// The calling thread's side is over, as at a system call: what it stored becomes visible.
  static void leave() { armv8::leave(); }
  /// Begins new random decisions, on all threads.
  static void seed(uint64_t seed) { armv8::seed(seed); }
};

}  // namespace imgconv::history
