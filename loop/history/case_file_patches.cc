#include "loop/history/case_file_parts.h"

namespace imgconv::history {
namespace {

constexpr Case kCases[] = {
    {"V3e_asposted",
     "both acquiring reads",
     "V3c_asposted and V3d_asposted together: the decision to sleep is still a plain read.",
     {"Launchpad bug 1805256", "2019", ""},
     "Hung in the first run on a Hi1620.",
     {"loop", "worker"},
     R"(C V3e_asposted
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = atomic_fetch_or_explicit(nm, 1, memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
  int o2 = atomic_exchange_explicit(nm, 4, memory_order_seq_cst);
  int c = atomic_load_explicit(sched, memory_order_acquire);
}
P1 (atomic_int* nm, atomic_int* sched) {
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_acquire);
}
exists (0:b=0 /\ 1:s=0 /\ 1:n=0)
)"},
    {"V3e_sc",
     "all four accesses seq_cst, no fence",
     "Two read-modify-writes and two loads, all seq_cst: the one pure alternative to a fence on"
     " each side, and right as long as every look for work is such an access.",
     {"Launchpad bug 1805256", "2019", ""},
     "Advice in the thread; not tried.",
     {"loop", "worker"},
     R"(C V3e_sc
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = atomic_fetch_or_explicit(nm, 1, memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_seq_cst);
}
P1 (atomic_int* nm, atomic_int* sched) {
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_seq_cst);
}
exists (0:b=0 /\ 1:s=0 /\ 1:n=0)
)"},
    {"V3f_padding",
     "red herring: notify_me padded, aligned to 16 bytes, or of 64 bits",
     "Puts notify_me and list_lock into different cache lines. It changes how long the window "
     "is open and no order: the program is that of V3, and so are its verdicts.",
     {"Launchpad bug 1805256", "2019", ""},
     "A dummy member in between: 500 clean runs on a ThunderX2. 64 bits aligned to 16 bytes: "
     "hung in the first run on a Hi1620.",
     {"loop", "worker"},
     R"(C V3f_padding
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
    {"V3g_always",
     "the worker always writes the eventfd, for convert",
     "No question about notify_me, hence nothing to get wrong between it and the eventfd; a "
     "system call per completion. Lost would mean that the eventfd ends unset.",
     {"Launchpad bug 1805256", "2020", ""},
     "500 clean runs for one reporter; within 5 runs a hang for another, who had ported the "
     "patch to a later version.",
     {"loop", "worker"},
     R"(C V3g_always
{ nm=0; sched=0; evfd=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = atomic_fetch_or_explicit(nm, 1, memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
}
P1 (atomic_int* sched, atomic_int* evfd) {
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  atomic_store_explicit(evfd, 1, memory_order_relaxed);
}
exists (0:b=0 /\ 1:s=0 /\ evfd=0)
)"},
    {"V3h_sync_gcc",
     "GCC's __sync_fetch_and_or for the announcement",
     "The older builtins promise a full barrier, and GCC puts a DMB behind the exclusive pair: "
     "exactly what V3 lacks.",
     {"Launchpad bug 1805256", "2019", ""},
     "Proposed in the thread; not tried.",
     {"loop", "worker"},
     R"(C V3h_sync_gcc
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = __sync_fetch_and_or(nm, 1);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* sched) {
  int s = atomic_exchange_explicit(sched, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:s=0 /\ 1:n=0)
)"},
    {"V3i_relfence",
     "a releasing fetch_add and a seq_cst fence",
     "The read-modify-write keeps only what it is needed for; the fence gives the order between"
     " announcing and looking.",
     {"Launchpad bug 1805256", "2019", ""},
     "Proposed in the thread; not tried.",
     {"loop", "worker"},
     R"(C V3i_relfence
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = atomic_fetch_add_explicit(nm, 2, memory_order_release);
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
    {"V3k_cppmem1",
     "first run of cppmem: a seq_cst store, then a relaxed load",
     "The protocol reduced for the tool. Not even a seq_cst store orders a relaxed load behind "
     "it.",
     {"Launchpad bug 1805256", "2019", ""},
     "The tool said that the loop can read 0.",
     {"loop", "worker"},
     R"(C V3k_cppmem1
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  atomic_store_explicit(nm, 2, memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* sched) {
  atomic_store_explicit(sched, 1, memory_order_release);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:n=0)
)"},
    {"V3k_cppmem2",
     "second run of cppmem: a seq_cst compare-exchange, then a relaxed load",
     "As the first, closer to what the program does.",
     {"Launchpad bug 1805256", "2019", ""},
     "The tool said the same.",
     {"loop", "worker"},
     R"(C V3k_cppmem2
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = 0;
  atomic_compare_exchange_strong_explicit(nm, &o, 2, memory_order_seq_cst, memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* sched) {
  atomic_store_explicit(sched, 1, memory_order_release);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:o=0 /\ 0:b=0 /\ 1:n=0)
)"},
    {"V3k_cppmem3",
     "third run of cppmem: compare-exchange release, seq_cst fence, relaxed load",
     "With a fence on both sides one of the two loads sees the other side.",
     {"Launchpad bug 1805256", "2019", ""},
     "The tool left one valid execution, in which the loop reads 1.",
     {"loop", "worker"},
     R"(C V3k_cppmem3
{ nm=0; sched=0; }
P0 (atomic_int* nm, atomic_int* sched) {
  int o = 0;
  atomic_compare_exchange_strong_explicit(nm, &o, 2, memory_order_release, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst);
  int b = atomic_load_explicit(sched, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* sched) {
  atomic_store_explicit(sched, 1, memory_order_release);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:o=0 /\ 0:b=0 /\ 1:n=0)
)"},
};

}  // namespace

std::span<const Case> cases_of_the_patches() { return kCases; }

}  // namespace imgconv::history
