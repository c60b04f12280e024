// Axioms: a memory model over the candidate executions that share one skeleton. What depends on
// the skeleton alone is computed once. Internal to the explorer; any thread.
//
// All conditions are monotone: an execution in which some reads and writes have no rf and co yet is
// refused only if every completion of it is. explore() prunes by that.
#pragma once

#include "loop/memory_model/execution.h"
#include "loop/memory_model/model.h"

namespace imgconv::memory_model {

class Axioms {
 public:
  /// `skeleton` must outlive this.
  Axioms(const Skeleton& skeleton, Model model, const ClauseSet& dropped);

  /// kCoherence and kAtomicity excepted: those are the enumeration's.
  bool allow(const Communication& communication) const;

  /// Pairs of which the first must stand above the second in a timeline. Acyclic.
  /// Requires: allow(communication).
  Relation timeline_order(const Communication& communication) const;

  /// C++20: conflicting accesses, not both atomic, that happens-before leaves unordered.
  bool has_data_race(const Communication& communication) const;

 private:
  bool has(Clause clause) const { return !dropped_[static_cast<size_t>(clause)]; }

  void prepare_tso();
  void prepare_armv8();
  Relation sc_order(const Communication& communication) const;
  Relation tso_order(const Communication& communication) const;
  Relation armv8_order(const Communication& communication) const;

  Relation happens_before(const Communication& communication) const;
  Relation partial_sc(const Communication& communication, const Relation& eco,
                      const Relation& hb) const;
  bool allow_cpp20(const Communication& communication) const;
  Relation cpp20_timeline_order(const Communication& communication) const;

  Relation fence_order() const;

  const Skeleton& skeleton_;
  Model model_;
  ClauseSet dropped_;
  /// What program order and the instructions alone keep in order (x86-TSO, ARMv8).
  Relation preserved_;
};

}  // namespace imgconv::memory_model
