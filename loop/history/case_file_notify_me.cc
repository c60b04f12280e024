#include "loop/history/case_file_parts.h"

namespace imgconv::history {
namespace {

constexpr Case kCases[] = {
    {"V3",
     "the loop announces by a seq_cst fetch_or and looks by a plain load",
     "aio_ctx_prepare sets bit 0 of notify_me and computes its timeout from a plain read of "
     "scheduled; the worker schedules, passes a full barrier and reads notify_me. In C++ a "
     "seq_cst operation does not order a plain load behind it. On ARMv8 without LSE it is LDAXR"
     " and STLXR, and the load may be satisfied before the STLXR is visible: the loop saw no "
     "work, the worker saw nobody to notify.",
     {"Launchpad bug 1805256", "2018-2020", ""},
     "qemu-img convert hangs in about half of the runs on a Hi1616 with 96 cores, after 3 to 20"
     " runs on a ThunderX2, in the first run on a Hi1620; main thread in ppoll(-1), workers "
     "gone. Never on x86.",
     {"loop", "worker"},
     R"(C V3
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = atomic_fetch_or_explicit(nm, 1, memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* sched) {
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:s=0 /\ 1:n=0)
)"},
    {"V3_poll",
     "the same by fetch_add, in aio_poll",
     "As V3: a blocking aio_poll adds 2 to notify_me. Another operation, the same instructions "
     "around it, the same hole.",
     {"Launchpad bug 1805256", "2018-2020", ""},
     "The path of qemu-io and of nested loops; analysed with V3, not reported apart.",
     {"loop", "worker"},
     R"(C V3_poll
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = atomic_fetch_add_explicit(nm, 2, memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* sched) {
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:s=0 /\ 1:n=0)
)"},
    {"V3_oneshot",
     "V3 reached through aio_bh_schedule_oneshot, 2016 to 2020",
     "The worker publishes the bottom half by a plain store under the list's lock, whose unlock"
     " is a store-release, and then passes the full barrier of aio_notify. Its side is in "
     "order; the loop's is the one of V3.",
     {"PATCH v2 util/async: Add memory barrier to aio_ctx_prepare", "2020", ""},
     "The timeline in the patch of April 2020; highly reproducible on aarch64, never seen on "
     "x86.",
     {"loop", "worker"},
     R"(C V3_oneshot
{ nm=0; first=0; lk=1; }
P0 (atomic_int* nm, atomic_int* first) {
  int o = atomic_fetch_or_explicit(nm, 1, memory_order_seq_cst);
  int b = atomic_load_explicit(first, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* first, atomic_int* lk) {
  atomic_thread_fence(memory_order_release);
  atomic_store_explicit(first, 1, memory_order_relaxed);
  atomic_store_explicit(lk, 0, memory_order_release);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:n=0)
)"},
    {"V3_zhengui",
     "the trace of 2019: notify_me just cleared by the check phase",
     "The worker reads the cleared notify_me while the loop enters prepare again, sets it and "
     "looks. The trace is right, the conclusion that a lock is missing is not: what is missing "
     "is order between setting and looking. The clearing is written as 2 to tell it from the "
     "initial 0.",
     {"Launchpad bug 1805256", "2019", ""},
     "Reported with a trace of a hang on qemu.git master.",
     {"loop", "worker"},
     R"(C V3_zhengui
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o0 = atomic_exchange_explicit(nm, 2, memory_order_seq_cst);
  int o = atomic_fetch_or_explicit(nm, 1, memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* sched) {
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:s=0 /\ 1:n=2)
)"},
    {"V3a_mutex",
     "a mutex around every access to notify_me",
     "Whoever locks second sees all that the first one did before it unlocked. It works, and "
     "takes a lock in every round of the loop and for every completion.",
     {"Launchpad bug 1805256", "2019", ""},
     "30 clean runs on the machine that hung every few.",
     {"loop", "worker"},
     R"(C V3a_mutex
{ nm=0; sched=0; lk=0; }
P0 (atomic_int* nm, atomic_int* sched, atomic_int* lk) {
  int l = atomic_exchange_explicit(lk, 1, memory_order_acquire);
  int o = atomic_fetch_or_explicit(nm, 1, memory_order_seq_cst);
  atomic_store_explicit(lk, 0, memory_order_release);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* sched, atomic_int* lk) {
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
  int l = atomic_exchange_explicit(lk, 1, memory_order_acquire);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
  atomic_store_explicit(lk, 0, memory_order_release);
}
exists (0:b=0 /\ 1:s=0 /\ 1:n=0 /\ 0:l=0 /\ 1:l=0)
)"},
    {"V3b_smp_mb",
     "smp_mb after the fetch_or",
     "The fence keeps the load behind the announcement; the worker has its own fence. Fence "
     "meets fence. On x86 it is a second full barrier after a LOCKed instruction.",
     {"Launchpad bug 1805256", "2019", ""},
     "500 clean runs on a ThunderX2 that usually hung within 20.",
     {"loop", "worker"},
     R"(C V3b_smp_mb
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = atomic_fetch_or_explicit(nm, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* sched) {
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:s=0 /\ 1:n=0)
)"},
    {"V3b_poll",
     "smp_mb after the fetch_add",
     "V3b_smp_mb in aio_poll.",
     {"Launchpad bug 1805256", "2019", ""},
     "Part of the same patch: 500 clean runs.",
     {"loop", "worker"},
     R"(C V3b_poll
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = atomic_fetch_add_explicit(nm, 2, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* sched) {
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:s=0 /\ 1:n=0)
)"},
    {"V3c_asposted",
     "an acquiring read of scheduled, in the check phase alone",
     "The patch strengthens the read that follows poll. The one that decides to sleep is in "
     "prepare and still plain; a loop that decided to sleep never gets to the other. The "
     "clearing is written as 4.",
     {"Launchpad bug 1805256", "2019", ""},
     "Hung in the first run on a Hi1620.",
     {"loop", "worker"},
     R"(C V3c_asposted
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = atomic_fetch_or_explicit(nm, 1, memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
  int o2 = atomic_exchange_explicit(nm, 4, memory_order_seq_cst);
  int c = atomic_load_explicit(sched, memory_order_acquire);
}
P1 (atomic_int* nm, atomic_int* sched) {
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:s=0 /\ 1:n=0)
)"},
    {"V3d_asposted",
     "an acquiring read of notify_me instead of the worker's barrier",
     "The worker's side becomes an exchange and an acquiring load; the loop's is that of V3, "
     "unchanged.",
     {"Launchpad bug 1805256", "2019", ""},
     "Hung in the first run on a Hi1620.",
     {"loop", "worker"},
     R"(C V3d_asposted
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = atomic_fetch_or_explicit(nm, 1, memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* sched) {
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_acquire);
}
exists (0:b=0 /\ 1:s=0 /\ 1:n=0)
)"},
};

}  // namespace

std::span<const Case> cases_of_notify_me() { return kCases; }

}  // namespace imgconv::history
