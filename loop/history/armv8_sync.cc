#include "loop/history/armv8_sync.h"

#include <sched.h>

#include <algorithm>
#include <cassert>
#include <mutex>
#include <vector>

#include "loop/history/random.h"
#include "loop/history/spin.h"

namespace imgconv::history {
namespace armv8 {
namespace {

/// The machine: one lock, so that each operation is one step of the emulation.
struct Machine {
  std::mutex mutex;
  // Guarded by mutex.
  uint64_t seed = 1;
  // How often seed() was called.
  uint64_t seed_generation = 1;
  uint64_t num_processors = 0;
};

Machine& machine() {
  // Never destroyed: threads may end after main() does.
  static Machine* const machine = new Machine;
  return *machine;
}

bool has_acquire(std::memory_order order) {
  return order == std::memory_order_acquire || order == std::memory_order_acq_rel ||
         order == std::memory_order_seq_cst;
}
bool has_release(std::memory_order order) {
  return order == std::memory_order_release || order == std::memory_order_acq_rel ||
         order == std::memory_order_seq_cst;
}

}  // namespace

struct Linger {
  uint64_t steps = 0;
  /// Where there are more threads than processors, steps alone let nobody else act.
  bool yields = false;
};

/// A thread and its store buffer. All members under the machine's lock.
class Processor {
 public:
  Processor() {
    const std::lock_guard lock(machine().mutex);
    number_ = ++machine().num_processors;
  }
  Processor(const Processor&) = delete;
  Processor& operator=(const Processor&) = delete;
  ~Processor() {
    const std::lock_guard lock(machine().mutex);
    drain_all();
  }

  uint64_t load(const Cell& cell, bool is_acquire) {
    drain_sometimes();
    if (is_acquire) drain_releases();
    const auto newest = std::find_if(waiting_.rbegin(), waiting_.rend(),
                                     [&cell](const Store& store) { return store.cell == &cell; });
    if (newest == waiting_.rend()) return cell.value;
    const uint64_t value = newest->value;
    // An acquire load does not read from its own thread's exclusive store before others can.
    if (is_acquire && newest->is_exclusive) write_exclusive(cell);
    return value;
  }

  void store(Cell& cell, uint64_t value, bool is_release) {
    drain_sometimes();
    waiting_.push_back({&cell, value, is_release, /*is_exclusive=*/false});
  }

  uint64_t read_modify_write(Cell& cell, Operation operation, uint64_t operand, uint64_t expected,
                             std::memory_order order) {
    drain_sometimes();
    if (has_release(order)) {
      // Stricter than the model, which would let the load half and later loads go ahead of the
      // stores before it. But then two threads may each hold a word that the other's earlier store
      // waits for, and one of the pairs would have to fail.
      drain_all();
    } else {
      if (has_acquire(order)) drain_releases();
      drain_through_last([&cell](const Store& store) { return store.cell == &cell; });
    }
    if (cell.exclusive_owner != nullptr) cell.exclusive_owner->write_exclusive(cell);
    const uint64_t before = cell.value;
    if (operation == Operation::kCompareExchange && before != expected) return before;
    waiting_.push_back({&cell, apply(operation, before, operand), has_release(order),
                        /*is_exclusive=*/true});
    cell.exclusive_owner = this;
    return before;
  }

  void drain_all() {
    while (!waiting_.empty()) drain_any();
  }
  bool has_waiting() const { return !waiting_.empty(); }

  /// How long a load that went ahead of waiting stores gives the other threads to act.
  Linger linger() {
    if (waiting_.empty() || random() % 4 == 0) return {};
    return {uint64_t{1} << (random() % kLogMaxSteps), random() % 4 == 0};
  }

 private:
  // Up to about 30 microseconds. That is much for a store buffer and nothing for the model, in
  // which a store becomes visible at some time.
  static constexpr unsigned kLogMaxSteps = 16;

  struct Store {
    Cell* cell;
    uint64_t value;
    bool is_release;
    bool is_exclusive;
  };

  static uint64_t apply(Operation operation, uint64_t before, uint64_t operand) {
    switch (operation) {
      case Operation::kExchange:
      case Operation::kCompareExchange:
        return operand;
      case Operation::kOr:
        return before | operand;
      case Operation::kAnd:
        return before & operand;
      case Operation::kAdd:
        return before + operand;
      case Operation::kSubtract:
        return before - operand;
    }
    return operand;
  }

  void write(size_t index) {
    const Store store = waiting_[index];
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(index));
    Cell& cell = *store.cell;
    if (cell.exclusive_owner != nullptr && cell.exclusive_owner != this) {
      cell.exclusive_owner->write_exclusive(cell);
    }
    cell.value = store.value;
    if (store.is_exclusive) cell.exclusive_owner = nullptr;
  }

  /// Makes the waiting half of a pair visible. Nothing has to go before it: a release waited for
  /// what was before it when it was made, and so did its own word.
  void write_exclusive(const Cell& cell) {
    const auto it = std::find_if(waiting_.begin(), waiting_.end(), [&cell](const Store& store) {
      return store.cell == &cell && store.is_exclusive;
    });
    assert(it != waiting_.end());
    write(static_cast<size_t>(it - waiting_.begin()));
  }

  bool may_go(size_t index) const {
    if (waiting_[index].is_release) return index == 0;
    for (size_t i = 0; i < index; ++i) {
      if (waiting_[i].cell == waiting_[index].cell) return false;
    }
    return true;
  }

  /// Requires: some store waits.
  void drain_any() {
    const size_t start = random() % waiting_.size();
    for (size_t i = start; i < waiting_.size(); ++i) {
      if (may_go(i)) return write(i);
    }
    write(0);
  }

  void drain_sometimes() {
    if (!waiting_.empty() && random() % 8 == 0) drain_any();
  }

  template <class Predicate>
  void drain_through_last(Predicate predicate) {
    const auto last = std::find_if(waiting_.rbegin(), waiting_.rend(), predicate);
    for (auto left = waiting_.rend() - last; left > 0; --left) write(0);
  }
  void drain_releases() {
    drain_through_last([](const Store& store) { return store.is_release; });
  }

  uint64_t random() {
    if (seed_generation_ != machine().seed_generation) {
      seed_generation_ = machine().seed_generation;
      random_ = Random(machine().seed, number_);
    }
    return random_.next();
  }

  std::vector<Store> waiting_;
  uint64_t number_ = 0;
  uint64_t seed_generation_ = 0;
  Random random_{1};
};

namespace {

Processor& this_processor() {
  thread_local Processor processor;
  return processor;
}

}  // namespace

uint64_t load(const Cell& cell, std::memory_order order) {
  Processor& processor = this_processor();
  uint64_t value = 0;
  Linger linger;
  {
    const std::lock_guard lock(machine().mutex);
    value = processor.load(cell, has_acquire(order));
    linger = processor.linger();
  }
  spin_steps(linger.steps);
  if (linger.yields) sched_yield();
  return value;
}

void store(Cell& cell, uint64_t value, std::memory_order order) {
  Processor& processor = this_processor();
  const std::lock_guard lock(machine().mutex);
  processor.store(cell, value, has_release(order));
}

uint64_t read_modify_write(Cell& cell, Operation operation, uint64_t operand, uint64_t expected,
                           std::memory_order order) {
  Processor& processor = this_processor();
  const std::lock_guard lock(machine().mutex);
  return processor.read_modify_write(cell, operation, operand, expected, order);
}

void fence(std::memory_order order) {
  // DMB ISHLD orders loads, and these are in order.
  if (order == std::memory_order_relaxed || order == std::memory_order_acquire) return;
  leave();
}

void leave() {
  Processor& processor = this_processor();
  const std::lock_guard lock(machine().mutex);
  processor.drain_all();
}

void seed(uint64_t seed) {
  const std::lock_guard lock(machine().mutex);
  machine().seed = seed;
  ++machine().seed_generation;
}

}  // namespace armv8

void Armv8Sync::relax() { sched_yield(); }

}  // namespace imgconv::history
