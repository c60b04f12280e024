// Model: the memory models that explore() knows, and the axioms each of them is made of.
//
// Names only; what an axiom says is in axioms.cc, what instructions a program becomes under a model
// is in mapping.cc. Values, any thread.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace imgconv::memory_model {

enum class Model : uint8_t {
  kSc,         ///< Sequential consistency: interleavings.
  kX86Tso,     ///< x86-TSO (Sewell et al. 2010), in axiomatic form.
  kArmv8LlSc,  ///< ARMv8, read-modify-writes by exclusive pairs, as without -mcpu of ARMv8.1.
  kArmv8Lse,   ///< ARMv8.1, read-modify-writes by one instruction.
  kArmv8Rcpc,  ///< As kArmv8LlSc, with LDAPR for acquire loads (-march=armv8-a+rcpc).
  kCpp20,      ///< C++20 with the repairs of RC11 (Lahav et al. 2017).
};

inline constexpr std::array kAllModels = {Model::kSc,       Model::kX86Tso,    Model::kArmv8LlSc,
                                          Model::kArmv8Lse, Model::kArmv8Rcpc, Model::kCpp20};

/// "sc", "x86-tso", "armv8-llsc", "armv8-lse", "armv8-rcpc", "c++20".
std::string_view name(Model model);
std::optional<Model> find_model(std::string_view name);

/// One conjunct of a model's axioms: a relation in a union, or a requirement of its own. The tests
/// leave one out at a time and must see a verdict change; see axioms.cc for the formulas.
enum class Clause : uint8_t {
  kCoherence,  ///< All but C++20: acyclic po-loc | rf | co | fr (internal visibility, uniproc).
  kAtomicity,  ///< All: nothing comes between the halves of a read-modify-write.

  kScProgramOrder,
  kScCommunication,

  kTsoProgramOrder,  ///< All pairs but a store and a later load.
  kTsoFence,
  kTsoLockedBefore,  ///< A store before a locked instruction.
  kTsoLockedAfter,   ///< A locked instruction before a load.
  kTsoReadsFrom,
  kTsoFromRead,
  kTsoCoherence,

  kArmReadsFrom,       ///< obs: rfe
  kArmFromRead,        ///< obs: fre
  kArmCoherence,       ///< obs: coe
  kArmLocalWrite,      ///< lws: po-loc; [W], which contains aob's rmw
  kArmAddress,         ///< dob: addr
  kArmAddressWrite,    ///< dob: addr; po; [W]
  kArmData,            ///< dob: data
  kArmControl,         ///< dob: ctrl; [W]
  kArmForwarding,      ///< dob: (addr | data); rfi
  kArmRmwForwarding,   ///< aob: rmw; rfi; [A | Q]
  kArmDmbFull,         ///< bob: po; [DMB]; po
  kArmDmbLoad,         ///< bob: [R]; po; [DMB LD]; po
  kArmAtomicAfter,     ///< bob: [range([A]; amo; [L])]; po
  kArmReleaseAcquire,  ///< bob: [L]; po; [A]
  kArmAcquire,         ///< bob: [A | Q]; po
  kArmRelease,         ///< bob: po; [L]

  kCppCoherence,        ///< irreflexive hb; eco?
  kCppNoThinAir,        ///< acyclic sb | rf
  kCppSynchronizes,     ///< sw in hb
  kCppReleaseSequence,  ///< (rf; rmw)* in sw
  kCppReleaseFence,     ///< [F]; sb in front of the write of sw
  kCppAcquireFence,     ///< sb; [F] behind the read of sw
  kCppScAccesses,       ///< psc: between seq_cst accesses
  kCppScFences,         ///< psc: between, from and to seq_cst fences
};

inline constexpr size_t kClauseCount = static_cast<size_t>(Clause::kCppScFences) + 1;

using ClauseSet = std::bitset<kClauseCount>;

}  // namespace imgconv::memory_model
