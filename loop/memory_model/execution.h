// Event: one access or fence of one execution, as a memory model sees it, with the tags that the
// axioms ask about; Trace, Skeleton and Communication: the parts that an execution is put together
// from. Internal to the explorer. Plain data.
#pragma once

#include <cstdint>
#include <vector>

#include "loop/memory_model/program.h"
#include "loop/memory_model/relation.h"

namespace imgconv::memory_model {

/// What an event is, beside being a read, a write or a fence. One set of tags for all models; each
/// uses its own.
enum Tag : uint16_t {
  kAcquire = 1 << 0,         ///< ARMv8: A. C++: acquire, of an access or a fence.
  kAcquirePc = 1 << 1,       ///< ARMv8: Q, the acquire of LDAPR.
  kRelease = 1 << 2,         ///< ARMv8: L. C++: release, of an access or a fence.
  kSeqCst = 1 << 3,          ///< C++.
  kFullFence = 1 << 4,       ///< x86: MFENCE. ARMv8: DMB ISH.
  kLoadFence = 1 << 5,       ///< ARMv8: DMB ISHLD.
  kOneInstruction = 1 << 6,  ///< Half of a read-modify-write that is one instruction.
  kLocked = 1 << 7,          ///< x86: of a LOCKed instruction, also when it does not write.
  kNotAtomic = 1 << 8,       ///< C++.
};
using Tags = uint16_t;

struct Event {
  enum class Kind : uint8_t { kRead, kWrite, kFence };

  static constexpr uint32_t kInitialThread = ~uint32_t{0};

  bool is_initial() const { return thread == kInitialThread; }

  Kind kind = Kind::kFence;
  Tags tags = 0;
  uint32_t thread = kInitialThread;
  LocationId location = 0;
  int64_t value = 0;
  /// Reads of its own thread, by their index there, that this event depends on: syntactically, as
  /// the hardware sees it.
  EventSet address_reads = 0;
  EventSet data_reads = 0;
  EventSet control_reads = 0;
  /// A write: the event in front of it is the read of the same read-modify-write.
  bool is_rmw_write = false;
  /// Null for an initial write.
  const Statement* statement = nullptr;
};

/// One way of a thread through its branches. What its events read and write is left open: only
/// constants have a value here.
struct Path {
  std::vector<Event> events;
  /// Was the condition true, of each branch and compare-exchange in order.
  std::vector<bool> decisions;
};

/// The events of all threads, and what is known of them before it is known who reads from whom.
/// Initial writes come first, by LocationId.
struct Skeleton {
  EventSet tagged(Tags any_of, EventSet among) const;

  std::vector<Event> events;
  EventSet reads = 0;
  EventSet writes = 0;
  EventSet fences = 0;
  Relation po;
  Relation address;
  Relation data;
  Relation control;
  /// Read to write of one read-modify-write.
  Relation rmw;
  Relation same_location;
  /// Of different threads.
  Relation external;
};

Skeleton make_skeleton(const Program& program, const std::vector<const Path*>& paths);

/// Who reads from whom (rf: write to read), in which order the writes to a location take effect
/// (co), and which write comes after what was read (fr).
struct Communication {
  explicit Communication(size_t size) : rf(size), co(size), fr(size) {}

  Relation rf;
  Relation co;
  Relation fr;
};

}  // namespace imgconv::memory_model
