// Sources, formula by formula:
// - x86-TSO: P. Sewell et al., "x86-TSO", CACM 53(7), 2010; in the axiomatic form of J. Alglave et
//   al., "Herding cats", TOPLAS 36(2), 2014.
// - ARMv8: C. Pulte et al., "Simplifying ARM Concurrency", POPL 2018, with what the Arm ARM (DDI
//   0487, B2.3, "Ordering relations") has said since: a write of an atomic instruction with acquire
//   and release is ordered before all that follows, and a write comes after what the same thread
//   did to that location before (which replaces POPL's two terms with coi).
// - C++20: O. Lahav et al., "Repairing Sequential Consistency in C/C++11", PLDI 2017, with release
//   sequences as C++20 has them: a store of the same thread no longer continues one (P0982).
// `a * b` is a; b of the papers, `r.between(A, B)` is [A]; r; [B].
#include "loop/memory_model/axioms.h"

#include <cassert>

namespace imgconv::memory_model {

Axioms::Axioms(const Skeleton& skeleton, Model model, const ClauseSet& dropped)
    : skeleton_(skeleton), model_(model), dropped_(dropped), preserved_(skeleton.events.size()) {
  switch (model) {
    case Model::kX86Tso:
      prepare_tso();
      break;
    case Model::kArmv8LlSc:
    case Model::kArmv8Lse:
    case Model::kArmv8Rcpc:
      prepare_armv8();
      break;
    case Model::kSc:
    case Model::kCpp20:
      break;
  }
}

bool Axioms::allow(const Communication& communication) const {
  switch (model_) {
    case Model::kSc:
      return sc_order(communication).is_acyclic();
    case Model::kX86Tso:
      return tso_order(communication).is_acyclic();
    case Model::kArmv8LlSc:
    case Model::kArmv8Lse:
    case Model::kArmv8Rcpc:
      return armv8_order(communication).is_acyclic();
    case Model::kCpp20:
      return allow_cpp20(communication);
  }
  return false;
}

Relation Axioms::sc_order(const Communication& communication) const {
  Relation order(skeleton_.events.size());
  if (has(Clause::kScProgramOrder)) order |= skeleton_.po;
  if (has(Clause::kScCommunication)) {
    order |= communication.rf | communication.co | communication.fr;
  }
  return order;
}

void Axioms::prepare_tso() {
  const Relation& po = skeleton_.po;
  const EventSet reads = skeleton_.reads;
  const EventSet writes = skeleton_.writes;
  if (has(Clause::kTsoProgramOrder)) preserved_ |= po.between(reads, reads | writes);
  if (has(Clause::kTsoProgramOrder)) preserved_ |= po.between(writes, writes);
  const EventSet fences = skeleton_.tagged(kFullFence, skeleton_.fences);
  if (has(Clause::kTsoFence)) preserved_ |= po.to(fences) * po;
  const EventSet locked = skeleton_.tagged(kLocked, reads | writes);
  if (has(Clause::kTsoLockedBefore)) preserved_ |= po.between(writes, reads & locked);
  if (has(Clause::kTsoLockedAfter)) preserved_ |= po.between(writes & locked, reads);
}

Relation Axioms::tso_order(const Communication& communication) const {
  Relation order = preserved_;
  if (has(Clause::kTsoReadsFrom)) order |= communication.rf & skeleton_.external;
  if (has(Clause::kTsoFromRead)) order |= communication.fr;
  if (has(Clause::kTsoCoherence)) order |= communication.co;
  return order;
}

void Axioms::prepare_armv8() {
  const Relation& po = skeleton_.po;
  const EventSet reads = skeleton_.reads;
  const EventSet writes = skeleton_.writes;
  if (has(Clause::kArmLocalWrite)) preserved_ |= (po & skeleton_.same_location).to(writes);

  if (has(Clause::kArmAddress)) preserved_ |= skeleton_.address;
  if (has(Clause::kArmAddressWrite)) preserved_ |= skeleton_.address * po.to(writes);
  if (has(Clause::kArmData)) preserved_ |= skeleton_.data;
  if (has(Clause::kArmControl)) preserved_ |= skeleton_.control.to(writes);

  const EventSet acquire = skeleton_.tagged(kAcquire, reads);
  const EventSet acquire_pc = skeleton_.tagged(kAcquirePc, reads);
  const EventSet release = skeleton_.tagged(kRelease, writes);
  const EventSet dmb_full = skeleton_.tagged(kFullFence, skeleton_.fences);
  const EventSet dmb_load = skeleton_.tagged(kLoadFence, skeleton_.fences);
  if (has(Clause::kArmDmbFull)) preserved_ |= po.to(dmb_full) * po;
  if (has(Clause::kArmDmbLoad)) preserved_ |= po.between(reads, dmb_load) * po;
  if (has(Clause::kArmAtomicAfter)) {
    const Relation amo = skeleton_.rmw.from(skeleton_.tagged(kOneInstruction, reads));
    preserved_ |= po.from(amo.between(acquire, release).range());
  }
  if (has(Clause::kArmReleaseAcquire)) preserved_ |= po.between(release, acquire);
  if (has(Clause::kArmAcquire)) preserved_ |= po.from(acquire | acquire_pc);
  if (has(Clause::kArmRelease)) preserved_ |= po.to(release);
}

Relation Axioms::armv8_order(const Communication& communication) const {
  Relation order = preserved_;
  const Relation internal_rf = communication.rf - skeleton_.external;
  if (has(Clause::kArmForwarding)) order |= (skeleton_.address | skeleton_.data) * internal_rf;
  if (has(Clause::kArmRmwForwarding)) {
    const EventSet acquire = skeleton_.tagged(kAcquire | kAcquirePc, skeleton_.reads);
    order |= skeleton_.rmw * internal_rf.to(acquire);
  }
  if (has(Clause::kArmReadsFrom)) order |= communication.rf & skeleton_.external;
  if (has(Clause::kArmFromRead)) order |= communication.fr & skeleton_.external;
  if (has(Clause::kArmCoherence)) order |= communication.co & skeleton_.external;
  return order;
}

Relation Axioms::happens_before(const Communication& communication) const {
  const size_t size = skeleton_.events.size();
  const Relation& sb = skeleton_.po;
  if (!has(Clause::kCppSynchronizes)) return sb;
  const EventSet reads = skeleton_.reads & ~skeleton_.tagged(kNotAtomic, skeleton_.reads);
  const EventSet writes = skeleton_.writes & ~skeleton_.tagged(kNotAtomic, skeleton_.writes);
  const EventSet fences = skeleton_.fences;

  Relation released = Relation::identity(size, skeleton_.tagged(kRelease, writes));
  if (has(Clause::kCppReleaseFence)) {
    released |= sb.between(skeleton_.tagged(kRelease, fences), writes);
  }
  if (has(Clause::kCppReleaseSequence)) {
    released = released * (communication.rf * skeleton_.rmw).closure().or_equal();
  }
  Relation acquired = Relation::identity(size, skeleton_.tagged(kAcquire, reads));
  if (has(Clause::kCppAcquireFence)) {
    acquired |= sb.between(reads, skeleton_.tagged(kAcquire, fences));
  }
  const Relation synchronizes = released * communication.rf.between(writes, reads) * acquired;
  return (sb | synchronizes).closure();
}

Relation Axioms::partial_sc(const Communication& communication, const Relation& eco,
                            const Relation& hb) const {
  const size_t size = skeleton_.events.size();
  const Relation& sb = skeleton_.po;
  const EventSet accesses = has(Clause::kCppScAccesses)
                                ? skeleton_.tagged(kSeqCst, skeleton_.reads | skeleton_.writes)
                                : EventSet{0};
  const EventSet fences =
      has(Clause::kCppScFences) ? skeleton_.tagged(kSeqCst, skeleton_.fences) : EventSet{0};

  const Relation elsewhere = sb - skeleton_.same_location;
  const Relation scb = sb | elsewhere * hb * elsewhere | (hb & skeleton_.same_location) |
                       communication.co | communication.fr;
  const Relation hb_or_equal = hb.or_equal();
  const Relation left = Relation::identity(size, accesses) | hb_or_equal.from(fences);
  const Relation right = Relation::identity(size, accesses) | hb_or_equal.to(fences);
  return left * scb * right | (hb | hb * eco * hb).between(fences, fences);
}

bool Axioms::allow_cpp20(const Communication& communication) const {
  if (has(Clause::kCppNoThinAir) && !(skeleton_.po | communication.rf).is_acyclic()) return false;
  const Relation eco = (communication.rf | communication.co | communication.fr).closure();
  const Relation hb = happens_before(communication);
  if (has(Clause::kCppCoherence) && !(hb.is_irreflexive() && (hb * eco).is_irreflexive())) {
    return false;
  }
  return partial_sc(communication, eco, hb).is_acyclic();
}

bool Axioms::has_data_race(const Communication& communication) const {
  const EventSet not_atomic = skeleton_.tagged(kNotAtomic, skeleton_.reads | skeleton_.writes);
  if (model_ != Model::kCpp20 || not_atomic == 0) return false;
  const Relation hb = happens_before(communication);
  const Relation conflict = skeleton_.same_location & skeleton_.external;
  for (size_t a = 0; a < skeleton_.events.size(); ++a) {
    for (size_t b = 0; b < a; ++b) {
      if (!conflict.has(a, b) || hb.has(a, b) || hb.has(b, a)) continue;
      const EventSet pair = only(a) | only(b);
      const bool is_initial = skeleton_.events[a].is_initial() || skeleton_.events[b].is_initial();
      if (!is_initial && (pair & not_atomic) != 0 && (pair & skeleton_.writes) != 0) return true;
    }
  }
  return false;
}

Relation Axioms::fence_order() const {
  const Relation& po = skeleton_.po;
  const EventSet fences = skeleton_.fences;
  const EventSet full = skeleton_.tagged(kFullFence | kSeqCst, fences);
  const EventSet acquire = skeleton_.tagged(kLoadFence | kAcquire, fences);
  const EventSet release = skeleton_.tagged(kRelease, fences);
  return po.to(full | release) | po.from(full | acquire) | po.between(skeleton_.reads, acquire) |
         po.between(release, skeleton_.writes);
}

Relation Axioms::cpp20_timeline_order(const Communication& communication) const {
  const Relation& po = skeleton_.po;
  const EventSet accesses = skeleton_.reads | skeleton_.writes;
  const EventSet seq_cst = skeleton_.tagged(kSeqCst, accesses);
  const Relation communicated = communication.rf | communication.co | communication.fr;
  const Relation order = communicated | fence_order() | po.between(seq_cst, seq_cst) |
                         po.from(skeleton_.tagged(kAcquire, skeleton_.reads)) |
                         po.to(skeleton_.tagged(kRelease, skeleton_.writes));
  // C++ knows executions that no single order of the accesses explains, such as two threads that
  // see two stores in different order. Then the timeline keeps who saw what.
  return order.is_acyclic() ? order : communicated;
}

Relation Axioms::timeline_order(const Communication& communication) const {
  switch (model_) {
    case Model::kSc:
      return sc_order(communication);
    case Model::kX86Tso:
      return tso_order(communication) | fence_order();
    case Model::kCpp20:
      return cpp20_timeline_order(communication);
    default:
      return armv8_order(communication) | fence_order();
  }
}

}  // namespace imgconv::memory_model
