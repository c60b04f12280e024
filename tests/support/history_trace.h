// Traced<Sync>: a synchronisation policy of loop/history/ that writes down what is done, and does
// it with Sync. StraightProgram is a litmus test of the case file to hold that against.
//
// Each thread has a trace of its own: set this_threads_trace before a side, reset it after. A
// policy whose threads are fibers says itself where the operations of the running one go:
// current_trace().
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <type_traits>
#include <vector>

#include "loop/history/history_sync.h"
#include "loop/memory_model/program.h"

namespace imgconv::test {

using memory_model::Order;
using memory_model::Statement;

struct TracedOperation {
  Statement::Kind kind;
  Order order;
  /// Null for a fence.
  const void* word = nullptr;
  /// What is in the word when it is called, by a thread that has no part in it.
  uint64_t (*peek)(const void* word) = nullptr;
  uint64_t operand = 0;
  uint64_t read = 0;
  /// Of a compare-exchange.
  uint64_t expected = 0;
};

/// What one side did, in order. Allocates nothing, for the sake of the checker.
class Trace {
 public:
  size_t size() const { return size_; }
  const TracedOperation& operator[](size_t index) const { return operations_[index]; }
  TracedOperation& back() { return operations_[size_ - 1]; }
  /// What does not fit is not looked at: no program is that long.
  void push_back(const TracedOperation& operation) {
    if (size_ < operations_.size()) operations_[size_++] = operation;
  }
  void erase_first() {
    std::move(operations_.begin() + 1, operations_.end(), operations_.begin());
    if (size_ > 0) --size_;
  }
  void clear() { size_ = 0; }

 private:
  std::array<TracedOperation, 32> operations_;
  size_t size_ = 0;
};

/// Where this thread's operations go; null: nowhere.
inline thread_local Trace* this_threads_trace = nullptr;

inline Order traced_order(std::memory_order order) {
  switch (order) {
    case std::memory_order_relaxed:
      return Order::kRelaxed;
    case std::memory_order_consume:
    case std::memory_order_acquire:
      return Order::kAcquire;
    case std::memory_order_release:
      return Order::kRelease;
    case std::memory_order_acq_rel:
      return Order::kAcqRel;
    case std::memory_order_seq_cst:
      return Order::kSeqCst;
  }
  return Order::kSeqCst;
}

template <class Sync>
struct Traced : Sync {
  template <class T>
  class Atomic {
    using Kind = Statement::Kind;
    using Inner = typename Sync::template Atomic<T>;

   public:
    explicit(false) Atomic(T value) : inner_(value) {}

    T load(std::memory_order order) const {
      return note(Kind::kLoad, order, T{}, inner_.load(order));
    }
    void store(T value, std::memory_order order) {
      inner_.store(value, order);
      note(Kind::kStore, order, value, T{});
    }
    T exchange(T value, std::memory_order order) {
      return note(Kind::kExchange, order, value, inner_.exchange(value, order));
    }
    T fetch_or(T value, std::memory_order order) {
      return note(Kind::kFetchOr, order, value, inner_.fetch_or(value, order));
    }
    T fetch_and(T value, std::memory_order order) {
      return note(Kind::kFetchAnd, order, value, inner_.fetch_and(value, order));
    }
    T fetch_add(T value, std::memory_order order) {
      return note(Kind::kFetchAdd, order, value, inner_.fetch_add(value, order));
    }
    T fetch_sub(T value, std::memory_order order) {
      return note(Kind::kFetchSub, order, value, inner_.fetch_sub(value, order));
    }
    bool compare_exchange_strong(T& expected, T desired, std::memory_order success,
                                 std::memory_order failure) {
      const T wanted = expected;
      const bool succeeded = inner_.compare_exchange_strong(expected, desired, success, failure);
      note(Kind::kCompareExchange, success, desired, expected);
      if (Trace* const here = current_trace()) here->back().expected = bits(wanted);
      return succeeded;
    }
    bool compare_exchange_weak(T& expected, T desired, std::memory_order success,
                               std::memory_order failure) {
      return compare_exchange_strong(expected, desired, success, failure);
    }

   private:
    friend struct Traced;

    /// An item's address counts as 1.
    static uint64_t bits(T value) {
      if constexpr (std::is_pointer_v<T>) {
        return value == nullptr ? 0 : 1;
      } else {
        return static_cast<uint64_t>(value);
      }
    }
    static uint64_t peek(const void* word) {
      return bits(static_cast<const Atomic*>(word)->inner_.load(std::memory_order_relaxed));
    }
    T note(Kind kind, std::memory_order order, T operand, T read) const {
      if (Trace* const here = current_trace()) {
        here->push_back({kind, traced_order(order), this, &peek, bits(operand), bits(read), 0});
      }
      return read;
    }

    Inner inner_;
  };

  static void fence(std::memory_order order) {
    Sync::fence(order);
    if (Trace* const here = current_trace()) {
      here->push_back({Statement::Kind::kFence, traced_order(order)});
    }
  }
  static void fence(std::memory_order order, Site /*site*/) { fence(order); }

  template <class T>
  static T sync_fetch_or(Atomic<T>& word, T value) {
    const T before = Sync::sync_fetch_or(word.inner_, value);
    word.note(Statement::Kind::kFetchOr, std::memory_order_seq_cst, value, before);
    if (Trace* const here = current_trace()) here->back().order = Order::kGccSync;
    return before;
  }
  template <class T>
  static void mb_set(Atomic<T>& word, T value) {
    Sync::mb_set(word.inner_, value);
    word.note(Statement::Kind::kMbSet, std::memory_order_seq_cst, value, T{});
  }

 private:
  static Trace* current_trace() {
    if constexpr (requires { Sync::current_trace(); }) {
      return Sync::current_trace();
    } else {
      return this_threads_trace;
    }
  }
};

/// A program of two straight-line sides, ready to be held against traces.
class StraightProgram {
 public:
  explicit StraightProgram(memory_model::Program program) : program_(std::move(program)) {
    for (const memory_model::Thread& thread : program_.threads) {
      sides_.push_back(memory_operations(thread));
    }
  }

  const memory_model::Program& program() const { return program_; }
  const std::vector<Statement>& side(size_t index) const { return sides_[index]; }

  /// How many operations of a side, from the first, are the program's, orders included.
  size_t common_length(size_t index, const Trace& trace) const {
    const std::vector<Statement>& operations = sides_[index];
    size_t i = 0;
    while (i < trace.size() && i < operations.size() && is_same(trace[i], operations[i])) ++i;
    return i;
  }

  /// Whether the sides did what the program says and nothing else.
  bool is_whole(const std::array<Trace, 2>& traces) const {
    for (size_t index = 0; index < 2; ++index) {
      const size_t length = common_length(index, traces[index]);
      if (length != traces[index].size() || length != sides_[index].size()) return false;
    }
    return true;
  }

  /// The execution that must not happen. Both sides are over. Allocates nothing.
  bool is_lost(const std::array<Trace, 2>& traces) const {
    return is_whole(traces) && holds(program_.condition, traces);
  }

  /// What is in a location of a whole run.
  uint64_t final_value(memory_model::LocationId location,
                       const std::array<Trace, 2>& traces) const {
    for (size_t index = 0; index < 2; ++index) {
      for (size_t i = 0; i < traces[index].size(); ++i) {
        const TracedOperation& operation = traces[index][i];
        if (operation.word != nullptr && sides_[index][i].location == location) {
          return operation.peek(operation.word);
        }
      }
    }
    return static_cast<uint64_t>(program_.locations[location].initial);
  }

 private:
  /// Constants in the places of registers that hold them.
  static std::vector<Statement> memory_operations(const memory_model::Thread& thread) {
    using memory_model::Expression;
    std::map<int64_t, Expression> constants;
    std::vector<Statement> operations;
    for (Statement statement : thread.body) {
      if (statement.kind == Statement::Kind::kAssign) {
        constants[*statement.result] = statement.operand;
        continue;
      }
      if (statement.expected.kind == Expression::Kind::kRegister) {
        statement.expected = constants[statement.expected.value];
      }
      operations.push_back(statement);
    }
    return operations;
  }

  /// What was read and which word it was is not looked at.
  static bool is_same(const TracedOperation& operation, const Statement& statement) {
    using Kind = Statement::Kind;
    if (operation.kind != statement.kind) return false;
    if (statement.kind != Kind::kMbSet && operation.order != statement.order) return false;
    if (statement.kind == Kind::kFence || statement.kind == Kind::kLoad) return true;
    if (statement.kind == Kind::kCompareExchange &&
        operation.expected != static_cast<uint64_t>(statement.expected.value)) {
      return false;
    }
    return operation.operand == static_cast<uint64_t>(statement.operand.value);
  }

  bool holds(const memory_model::Condition& condition, const std::array<Trace, 2>& traces) const {
    using Kind = memory_model::Condition::Kind;
    const auto& parts = condition.operands;
    const auto part_holds = [&](const memory_model::Condition& part) {
      return holds(part, traces);
    };
    const auto wanted = static_cast<uint64_t>(condition.value);
    switch (condition.kind) {
      case Kind::kTrue:
        return true;
      case Kind::kAnd:
        return std::all_of(parts.begin(), parts.end(), part_holds);
      case Kind::kOr:
        return std::any_of(parts.begin(), parts.end(), part_holds);
      case Kind::kNot:
        return !part_holds(parts[0]);
      case Kind::kLocationEquals:
        return final_value(condition.subject, traces) == wanted;
      case Kind::kRegisterEquals:
        break;
    }
    const std::vector<Statement>& operations = sides_[condition.thread];
    for (size_t i = 0; i < operations.size(); ++i) {
      if (operations[i].result == condition.subject) {
        return traces[condition.thread][i].read == wanted;
      }
    }
    return false;
  }

  memory_model::Program program_;
  std::vector<std::vector<Statement>> sides_;
};

/// V1's program with the branches that are taken as straight lines. What it does to the eventfd is
/// left out: a variant tells its caller to write it.
inline memory_model::Program without_branches(memory_model::Program program) {
  const auto is_event = [&program](const Statement& statement) {
    return statement.kind == Statement::Kind::kStore &&
           program.locations[statement.location].name == "eventfd";
  };
  for (memory_model::Thread& thread : program.threads) {
    for (size_t i = 0; i < thread.body.size();) {
      const Statement statement = thread.body[i];
      const auto place = thread.body.begin() + static_cast<std::ptrdiff_t>(i);
      if (statement.kind == Statement::Kind::kIf) {
        thread.body.insert(thread.body.erase(place), statement.then_branch.begin(),
                           statement.then_branch.end());
      } else if (is_event(statement)) {
        thread.body.erase(place);
      } else {
        ++i;
      }
    }
  }
  return program;
}

/// Which word of a variant is which location of the program. A word is known by its place in its
/// object, so that objects of one type share one of these.
class WordNames {
 public:
  /// False if the word or the location goes with another one already.
  bool unite(const void* object, const void* word, memory_model::LocationId location) {
    const auto offset = static_cast<const char*>(word) - static_cast<const char*>(object);
    const auto by_offset = locations_.emplace(offset, location).first;
    const auto by_location = offsets_.emplace(location, offset).first;
    return by_offset->second == location && by_location->second == offset;
  }

 private:
  std::map<std::ptrdiff_t, memory_model::LocationId> locations_;
  std::map<memory_model::LocationId, std::ptrdiff_t> offsets_;
};

}  // namespace imgconv::test
