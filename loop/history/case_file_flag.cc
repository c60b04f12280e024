#include "loop/history/case_file_parts.h"

namespace imgconv::history {
namespace {

constexpr Case kCases[] = {
    {"V1",
     "the dispatching optimisation of 2014",
     "Who schedules a bottom half does not write the eventfd while some aio_poll is "
     "dispatching, since that one will look again. But the one that dispatches need not be the "
     "one that sleeps: a nested aio_poll re-schedules the completion bottom half without a "
     "write, and the worker that comes next finds it scheduled and does nothing. No reordering "
     "is needed. The question should have been whether anybody is in prepare or poll.",
     {"log of QEMU's util/async.c", "2015", "eabc977973103527bbb8fed69c91cfaa6691f8ab"},
     "KVM on aarch64 hung in more than half of the boots, in the firmware; a single printf "
     "halved the rate. Event loop in poll(-1).",
     {"event loop", "virtual CPU", "worker"},
     R"(C V1
{ scheduled=0; dispatching=0; eventfd=0; }
P0 (atomic_int* scheduled) {
  int b = atomic_load_explicit(scheduled, memory_order_relaxed);
}
P1 (atomic_int* scheduled, atomic_int* dispatching, atomic_int* eventfd) {
  atomic_store_explicit(dispatching, 1, memory_order_relaxed);
  int s = atomic_exchange_explicit(scheduled, 1, memory_order_seq_cst);
  if (s == 0) {
    atomic_thread_fence(memory_order_seq_cst);
    int d = atomic_load_explicit(dispatching, memory_order_relaxed);
    if (d == 0) atomic_store_explicit(eventfd, 1, memory_order_relaxed);
  }
  atomic_store_explicit(dispatching, 0, memory_order_relaxed);
}
P2 (atomic_int* scheduled, atomic_int* dispatching, atomic_int* eventfd) {
  int s = atomic_exchange_explicit(scheduled, 1, memory_order_seq_cst);
  if (s == 0) {
    atomic_thread_fence(memory_order_seq_cst);
    int d = atomic_load_explicit(dispatching, memory_order_relaxed);
    if (d == 0) atomic_store_explicit(eventfd, 1, memory_order_relaxed);
  }
}
exists (0:b=0 /\ 1:s=0 /\ 2:s=1 /\ eventfd=0)
)"},
    {"V2_both",
     "the bottom-half flag without full barriers, 2014 to 2015",
     "The worker stores its result and leaves at once if the bottom half is already scheduled; "
     "the loop clears the flag, passes a read barrier and looks at the result. A store and a "
     "later load of another word on both sides, and nothing that keeps either pair in order: "
     "the worker leaves because the flag was set, the loop has cleared it and sees the old "
     "result.",
     {"Launchpad bug 1587039", "2015", "924fe12"},
     "x86_64 and aarch64 guests with hung tasks, after days or, with direct I/O on fast "
     "storage, within 15 minutes; patched: over 12 hours and 10 to 20 guests for weeks without "
     "one.",
     {"loop", "worker"},
     R"(C V2_both
{ state=0; sched=1; }
P0 (atomic_int* state, atomic_int* sched) {
  atomic_store_explicit(sched, 0, memory_order_relaxed);
  atomic_thread_fence(memory_order_acquire);
  int st = atomic_load_explicit(state, memory_order_relaxed);
}
P1 (atomic_int* state, atomic_int* sched) {
  atomic_store_explicit(state, 1, memory_order_relaxed);
  int s = atomic_load_explicit(sched, memory_order_relaxed);
}
exists (0:st=0 /\ 1:s=1)
)"},
    {"V2_fixK_only",
     "the flag with only the worker's half of the fix",
     "qemu_bh_schedule exchanges the flag, aio_bh_poll still stores and passes a read barrier, "
     "which does not keep a store before a later load.",
     {"Launchpad bug 1587039", "2015", ""},
     "Not tried alone; half of the fix of April 2015.",
     {"loop", "worker"},
     R"(C V2_fixK_only
{ state=0; sched=1; }
P0 (atomic_int* state, atomic_int* sched) {
  atomic_store_explicit(sched, 0, memory_order_relaxed);
  atomic_thread_fence(memory_order_acquire);
  int st = atomic_load_explicit(state, memory_order_relaxed);
}
P1 (atomic_int* state, atomic_int* sched) {
  atomic_store_explicit(state, 1, memory_order_relaxed);
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
}
exists (0:st=0 /\ 1:s=1 /\ sched=0)
)"},
    {"V2_fixM_only",
     "the flag with only the loop's half of the fix",
     "aio_bh_poll exchanges the flag, qemu_bh_schedule still leaves after a plain look at it: "
     "that look may come before the store of its own result.",
     {"Launchpad bug 1587039", "2015", ""},
     "Not tried alone; half of the fix of April 2015.",
     {"loop", "worker"},
     R"(C V2_fixM_only
{ state=0; sched=1; }
P0 (atomic_int* state, atomic_int* sched) {
  int m = atomic_exchange_explicit(sched, 0, memory_order_seq_cst);
  int st = atomic_load_explicit(state, memory_order_relaxed);
}
P1 (atomic_int* state, atomic_int* sched) {
  atomic_store_explicit(state, 1, memory_order_relaxed);
  int s = atomic_load_explicit(sched, memory_order_relaxed);
}
exists (0:m=1 /\ 0:st=0 /\ 1:s=1)
)"},
    {"V2_fixed",
     "the flag exchanged on both sides, April 2015",
     "Both sides are read-modify-writes of one word, so one of them comes second, reads what "
     "the first one wrote, and sees all that was before it. No fence is needed.",
     {"Launchpad bug 1587039", "2015", ""},
     "Over 12 hours clean where 15 minutes had been enough, and 10 to 20 guests for weeks.",
     {"loop", "worker"},
     R"(C V2_fixed
{ state=0; sched=1; }
P0 (atomic_int* state, atomic_int* sched) {
  int m = atomic_exchange_explicit(sched, 0, memory_order_seq_cst);
  int st = atomic_load_explicit(state, memory_order_relaxed);
}
P1 (atomic_int* state, atomic_int* sched) {
  atomic_store_explicit(state, 1, memory_order_relaxed);
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
}
exists (0:m=1 /\ 0:st=0 /\ 1:s=1 /\ sched=0)
)"},
};

}  // namespace

std::span<const Case> cases_of_the_flag() { return kCases; }

}  // namespace imgconv::history
