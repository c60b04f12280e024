#include "loop/history/case_file_parts.h"

namespace imgconv::history {
namespace {

constexpr Case kCases[] = {
    {"V7_old",
     "QemuEvent before 2023: reset, then the caller's condition",
     "qemu_event_reset ends with a seq_cst fetch_or and no fence, and its caller reads the "
     "condition; qemu_event_set stores nothing if it finds the event set. The waiter's read may"
     " come before its reset is visible.",
     {"qatomic: add smp_mb__before/after_rmw(), cover letter", "2023", ""},
     "After a27dd2de68f3 of January 2023, KVM threads on ARM slept for ever in qemu_event_wait.",
     {"waiter", "setter"},
     R"(C V7_old
{ ev=0; cond=0; }
P0 (atomic_int* ev, atomic_int* cond) {
  int v = atomic_load_explicit(ev, memory_order_relaxed);
  atomic_thread_fence(memory_order_acquire);
  int o = atomic_fetch_or_explicit(ev, 1, memory_order_seq_cst);
  int c = atomic_load_explicit(cond, memory_order_relaxed);
}
P1 (atomic_int* ev, atomic_int* cond) {
  atomic_store_explicit(cond, 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst);
  int e = atomic_load_explicit(ev, memory_order_relaxed);
}
exists (0:v=0 /\ 0:c=0 /\ 1:e=0)
)"},
    {"V7_fixed",
     "QemuEvent of 2023: fetch_or and smp_mb__after_rmw",
     "The fence keeps the caller's read of the condition behind the reset.",
     {"qatomic: add smp_mb__before/after_rmw(), cover letter", "2023", ""},
     "The hangs of V7_old were gone.",
     {"waiter", "setter"},
     R"(C V7_fixed
{ ev=0; cond=0; }
P0 (atomic_int* ev, atomic_int* cond) {
  int o = atomic_fetch_or_explicit(ev, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int c = atomic_load_explicit(cond, memory_order_relaxed);
}
P1 (atomic_int* ev, atomic_int* cond) {
  atomic_store_explicit(cond, 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst);
  int e = atomic_load_explicit(ev, memory_order_relaxed);
}
exists (0:c=0 /\ 1:e=0)
)"},
    {"V8_old",
     "aio_wait_kick without a barrier",
     "The waiter counts itself in and reads the condition; the kicker stores the condition and "
     "reads the count. The kicker's store and load are not in order on any machine.",
     {"qatomic: add smp_mb__before/after_rmw(), cover letter", "2022", ""},
     "No report known; found by reading.",
     {"waiter", "kicker"},
     R"(C V8_old
{ nw=0; cond=0; }
P0 (atomic_int* nw, atomic_int* cond) {
  int x = atomic_fetch_add_explicit(nw, 1, memory_order_seq_cst);
  int c = atomic_load_explicit(cond, memory_order_relaxed);
}
P1 (atomic_int* nw, atomic_int* cond) {
  atomic_store_explicit(cond, 1, memory_order_relaxed);
  int n = atomic_load_explicit(nw, memory_order_relaxed);
}
exists (0:c=0 /\ 1:n=0)
)"},
    {"V8_fixed",
     "aio_wait_kick with a barrier on each side",
     "Fence meets fence.",
     {"qatomic: add smp_mb__before/after_rmw(), cover letter", "2022", "7455ff1aa015"},
     "Clean since.",
     {"waiter", "kicker"},
     R"(C V8_fixed
{ nw=0; cond=0; }
P0 (atomic_int* nw, atomic_int* cond) {
  int x = atomic_fetch_add_explicit(nw, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int c = atomic_load_explicit(cond, memory_order_relaxed);
}
P1 (atomic_int* nw, atomic_int* cond) {
  atomic_store_explicit(cond, 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nw, memory_order_relaxed);
}
exists (0:c=0 /\ 1:n=0)
)"},
    {"V9_old",
     "CoMutex: a compare-exchange, then an acquiring read of handoff",
     "The locker pushes itself and reads handoff by an acquiring load, the unlocker sets "
     "handoff with a full barrier and looks for waiters. ARMv8 orders STLXR before LDAR, so it "
     "holds there by luck; C++ promises nothing, and with LDAPR the luck is gone.",
     {"qatomic: add smp_mb__before/after_rmw(), cover letter", "2023", ""},
     "No report known.",
     {"locker", "unlocker"},
     R"(C V9_old
{ push=0; handoff=0; }
P0 (atomic_int* push, atomic_int* handoff) {
  int p = 0;
  atomic_compare_exchange_strong_explicit(push, &p, 1, memory_order_seq_cst, memory_order_seq_cst);
  int h = atomic_load_explicit(handoff, memory_order_acquire);
}
P1 (atomic_int* push, atomic_int* handoff) {
  atomic_mb_set(handoff, 1);
  int q = atomic_load_explicit(push, memory_order_relaxed);
}
exists (0:p=0 /\ 0:h=0 /\ 1:q=0)
)"},
    {"V9_fixed",
     "CoMutex of 2023: the fence is explicit",
     "Compare-exchange, smp_mb__after_rmw, relaxed read.",
     {"qatomic: add smp_mb__before/after_rmw(), cover letter", "2023", ""},
     "Clean.",
     {"locker", "unlocker"},
     R"(C V9_fixed
{ push=0; handoff=0; }
P0 (atomic_int* push, atomic_int* handoff) {
  int p = 0;
  atomic_compare_exchange_strong_explicit(push, &p, 1, memory_order_seq_cst, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int h = atomic_load_explicit(handoff, memory_order_relaxed);
}
P1 (atomic_int* push, atomic_int* handoff) {
  atomic_mb_set(handoff, 1);
  int q = atomic_load_explicit(push, memory_order_relaxed);
}
exists (0:p=0 /\ 0:h=0 /\ 1:q=0)
)"},
    {"V10_2014",
     "the completion bottom half cancels by a plain store, 2014",
     "The callback schedules its own bottom half, and takes that back by storing 0 before it "
     "looks at the results again. A worker that came in between found the flag set and left; "
     "its result may still be unseen when the store wipes the flag out.",
     {"log of QEMU's util/async.c", "2014", "3c80ca1"},
     "No report told apart from V2.",
     {"loop", "worker"},
     R"(C V10_2014
{ state=0; sched=1; }
P0 (atomic_int* state, atomic_int* sched) {
  atomic_store_explicit(sched, 0, memory_order_relaxed);
  int st = atomic_load_explicit(state, memory_order_relaxed);
}
P1 (atomic_int* state, atomic_int* sched) {
  atomic_store_explicit(state, 1, memory_order_relaxed);
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
}
exists (0:st=0 /\ 1:s=1 /\ sched=0)
)"},
    {"V10_rmw",
     "cancelling by a read-modify-write",
     "As V2_fixed: two read-modify-writes of one word.",
     {"log of QEMU's util/async.c", "2020", ""},
     "Clean.",
     {"loop", "worker"},
     R"(C V10_rmw
{ state=0; sched=1; }
P0 (atomic_int* state, atomic_int* sched) {
  int m = atomic_exchange_explicit(sched, 0, memory_order_seq_cst);
  int st = atomic_load_explicit(state, memory_order_relaxed);
}
P1 (atomic_int* state, atomic_int* sched) {
  atomic_store_explicit(state, 1, memory_order_relaxed);
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
}
exists (0:st=0 /\ 1:s=1 /\ sched=0)
)"},
    {"V11_accept_store",
     "accepting a notification by a store",
     "The loop clears notified, passes a full fence and reads the list; the worker inserts, "
     "passes a write barrier and sets notified. Lost would mean that the loop wiped the "
     "notification out and did not see the bottom half. Every machine keeps the insertion "
     "before the notification and the fence keeps the look behind the clearing; C++ does not "
     "say so for a release fence, which is no partner for a seq_cst one.",
     {"log of QEMU's util/async.c", "2020", ""},
     "No report known.",
     {"loop", "worker"},
     R"(C V11_accept_store
{ list=0; notified=0; }
P0 (atomic_int* list, atomic_int* notified) {
  atomic_store_explicit(notified, 2, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst);
  int b = atomic_load_explicit(list, memory_order_relaxed);
}
P1 (atomic_int* list, atomic_int* notified) {
  int h = 0;
  atomic_compare_exchange_strong_explicit(list, &h, 1, memory_order_seq_cst, memory_order_seq_cst);
  atomic_thread_fence(memory_order_release);
  atomic_store_explicit(notified, 1, memory_order_relaxed);
}
exists (0:b=0 /\ 1:h=0 /\ notified=2)
)"},
    {"V11_sleep",
     "aio_poll since August 2020: announce, then look at notified once more",
     "The timeout is computed before notify_me is set, so the last look is at notified. A "
     "store, a fence, a load on each side.",
     {"log of QEMU's util/async.c", "2020", ""},
     "Clean.",
     {"loop", "worker"},
     R"(C V11_sleep
{ nm=0; notified=0; }
P0 (atomic_int* nm, atomic_int* notified) {
  atomic_store_explicit(nm, 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst);
  int b = atomic_load_explicit(notified, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* notified) {
  atomic_store_explicit(notified, 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:n=0)
)"},
    {"current",
     "imgconv's own: WakeGate and Inbox",
     "The loop arms by a relaxed store, passes a fence and looks into the inbox; the worker "
     "pushes by a releasing compare-exchange, passes a fence and asks whether the loop is "
     "armed. The fences carry the order, the release carries the item.",
     {"loop/README.md", "2026", ""},
     "See tests/model/ and imgconv reproduce.",
     {"loop", "worker"},
     R"(C current
{ armed=0; inbox=0; }
P0 (atomic_int* armed, atomic_int* inbox) {
  atomic_store_explicit(armed, 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst);
  int b = atomic_load_explicit(inbox, memory_order_relaxed);
}
P1 (atomic_int* armed, atomic_int* inbox) {
  int p = 0;
  atomic_compare_exchange_strong_explicit(inbox, &p, 1, memory_order_release, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst);
  int a = atomic_load_explicit(armed, memory_order_relaxed);
}
exists (0:b=0 /\ 1:p=0 /\ 1:a=0)
)"},
};

}  // namespace

std::span<const Case> cases_of_waiters_and_later() { return kCases; }

}  // namespace imgconv::history
