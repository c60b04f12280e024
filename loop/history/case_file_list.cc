#include "loop/history/case_file_parts.h"

namespace imgconv::history {
namespace {

constexpr Case kCases[] = {
    {"V4_prepare",
     "V3 over the list of bottom halves of QEMU 5.0",
     "The worker sets the flags, puts the bottom half into the list, both by seq_cst "
     "read-modify-writes, and passes the barrier of aio_notify. The loop announces and looks as"
     " in V3, at the list's head.",
     {"PATCH v2 util/async: Add memory barrier to aio_ctx_prepare", "2020", ""},
     "qemu-img convert -f qcow2 -O qcow2 on aarch64: the main thread hangs in the main loop, "
     "highly reproducible. Not on x86. A running machine is not affected, since there is always "
     "some timer or a later worker that wakes its main thread.",
     {"loop", "worker"},
     R"(C V4_prepare
{ nm=0; flags=0; list=0; }
P0 (atomic_int* nm, atomic_int* list) {
  int o = atomic_fetch_or_explicit(nm, 1, memory_order_seq_cst);
  int b = atomic_load_explicit(list, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* flags, atomic_int* list) {
  int f = atomic_fetch_or_explicit(flags, 3, memory_order_seq_cst);
  int h = 0;
  atomic_compare_exchange_strong_explicit(list, &h, 1, memory_order_seq_cst, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:f=0 /\ 1:h=0 /\ 1:n=0)
)"},
    {"V4_poll",
     "the same in aio_poll",
     "V4_prepare with fetch_add.",
     {"PATCH v2 util/async: Add memory barrier to aio_ctx_prepare", "2020", ""},
     "Analysed with V4_prepare, not reported apart.",
     {"loop", "worker"},
     R"(C V4_poll
{ nm=0; flags=0; list=0; }
P0 (atomic_int* nm, atomic_int* list) {
  int o = atomic_fetch_add_explicit(nm, 2, memory_order_seq_cst);
  int b = atomic_load_explicit(list, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* flags, atomic_int* list) {
  int f = atomic_fetch_or_explicit(flags, 3, memory_order_seq_cst);
  int h = 0;
  atomic_compare_exchange_strong_explicit(list, &h, 1, memory_order_seq_cst, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:f=0 /\ 1:h=0 /\ 1:n=0)
)"},
    {"V4a_prepare",
     "smp_mb in aio_ctx_prepare",
     "The patch of April 2020: a full barrier between announcing and computing the timeout, on "
     "the path that qemu-img's main loop takes.",
     {"PATCH v2 util/async: Add memory barrier to aio_ctx_prepare", "2020", ""},
     "Proved to have the hang fixed in its author's test.",
     {"loop", "worker"},
     R"(C V4a_prepare
{ nm=0; flags=0; list=0; }
P0 (atomic_int* nm, atomic_int* list) {
  int o = atomic_fetch_or_explicit(nm, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int b = atomic_load_explicit(list, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* flags, atomic_int* list) {
  int f = atomic_fetch_or_explicit(flags, 3, memory_order_seq_cst);
  int h = 0;
  atomic_compare_exchange_strong_explicit(list, &h, 1, memory_order_seq_cst, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:f=0 /\ 1:h=0 /\ 1:n=0)
)"},
    {"V4a_poll",
     "the same patch, seen from aio_poll",
     "The patch does not touch this path; it is V4_poll.",
     {"PATCH v2 util/async: Add memory barrier to aio_ctx_prepare", "2020", ""},
     "Not tried.",
     {"loop", "worker"},
     R"(C V4a_poll
{ nm=0; flags=0; list=0; }
P0 (atomic_int* nm, atomic_int* list) {
  int o = atomic_fetch_add_explicit(nm, 2, memory_order_seq_cst);
  int b = atomic_load_explicit(list, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* flags, atomic_int* list) {
  int f = atomic_fetch_or_explicit(flags, 3, memory_order_seq_cst);
  int h = 0;
  atomic_compare_exchange_strong_explicit(list, &h, 1, memory_order_seq_cst, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:f=0 /\ 1:h=0 /\ 1:n=0)
)"},
    {"V5",
     "relaxed store of notify_me and a full fence on each side",
     "Only the loop's thread writes notify_me, so it need not be a read-modify-write. The fence"
     " between announcing and looking meets the one between inserting and asking: whichever "
     "comes first, the other side sees the store in front of it.",
     {"Launchpad bug 1805256", "2020", "5710a3e09f9b"},
     "Backported: 40, 100 and 500 clean runs; overnight 6574 on a ThunderX2 and 12919 on a "
     "Hi1620.",
     {"loop", "worker"},
     R"(C V5
{ nm=0; flags=0; list=0; }
P0 (atomic_int* nm, atomic_int* list) {
  atomic_store_explicit(nm, 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst);
  int b = atomic_load_explicit(list, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* flags, atomic_int* list) {
  int f = atomic_fetch_or_explicit(flags, 3, memory_order_seq_cst);
  int h = 0;
  atomic_compare_exchange_strong_explicit(list, &h, 1, memory_order_seq_cst, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:f=0 /\ 1:h=0 /\ 1:n=0)
)"},
    {"V5_noMfence",
     "V5 without the loop's fence",
     "With the read-modify-write went what had saved x86: now the fence carries the order "
     "there, too.",
     {"Launchpad bug 1805256", "2020", ""},
     "Never shipped: shows what the fence is for.",
     {"loop", "worker"},
     R"(C V5_noMfence
{ nm=0; flags=0; list=0; }
P0 (atomic_int* nm, atomic_int* list) {
  atomic_store_explicit(nm, 1, memory_order_relaxed);
  int b = atomic_load_explicit(list, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* flags, atomic_int* list) {
  int f = atomic_fetch_or_explicit(flags, 3, memory_order_seq_cst);
  int h = 0;
  atomic_compare_exchange_strong_explicit(list, &h, 1, memory_order_seq_cst, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:f=0 /\ 1:h=0 /\ 1:n=0)
)"},
    {"V5_noKfence",
     "V5 without the worker's fence",
     "Relies on the two read-modify-writes in front of the load, as V3 did on its own. x86 and "
     "LSE forgive it.",
     {"Launchpad bug 1805256", "2020", ""},
     "Never shipped: shows what the fence is for.",
     {"loop", "worker"},
     R"(C V5_noKfence
{ nm=0; flags=0; list=0; }
P0 (atomic_int* nm, atomic_int* list) {
  atomic_store_explicit(nm, 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst);
  int b = atomic_load_explicit(list, memory_order_relaxed);
}
P1 (atomic_int* nm, atomic_int* flags, atomic_int* list) {
  int f = atomic_fetch_or_explicit(flags, 3, memory_order_seq_cst);
  int h = 0;
  atomic_compare_exchange_strong_explicit(list, &h, 1, memory_order_seq_cst, memory_order_seq_cst);
  int n = atomic_load_explicit(nm, memory_order_relaxed);
}
exists (0:b=0 /\ 1:f=0 /\ 1:h=0 /\ 1:n=0)
)"},
    {"V6_pending",
     "enqueue and dequeue of a bottom half meet in its flags",
     "The worker finds PENDING set and does not insert again; the loop takes the flags and runs"
     " the callback. Both are read-modify-writes of one word: who is second sees the first.",
     {"qatomic: add smp_mb__before/after_rmw(), cover letter", "2023", ""},
     "No hang known; the series of 2023 adds a barrier all the same.",
     {"loop", "worker"},
     R"(C V6_pending
{ data=0; flags=3; }
P0 (atomic_int* data, atomic_int* flags) {
  int g = atomic_fetch_and_explicit(flags, 0, memory_order_seq_cst);
  int d = atomic_load_explicit(data, memory_order_relaxed);
}
P1 (atomic_int* data, atomic_int* flags) {
  atomic_store_explicit(data, 1, memory_order_relaxed);
  int f = atomic_fetch_or_explicit(flags, 3, memory_order_seq_cst);
}
exists (0:d=0 /\ 1:f=3)
)"},
    {"V6_list",
     "the list of bottom halves is handed over",
     "Message passing: what was stored before the insertion is seen by whoever takes the list.",
     {"qatomic: add smp_mb__before/after_rmw(), cover letter", "2023", ""},
     "No hang known.",
     {"loop", "worker"},
     R"(C V6_list
{ data=0; list=0; }
P0 (atomic_int* data, atomic_int* list) {
  int l = atomic_exchange_explicit(list, 0, memory_order_seq_cst);
  int d = atomic_load_explicit(data, memory_order_relaxed);
}
P1 (atomic_int* data, atomic_int* list) {
  atomic_store_explicit(data, 1, memory_order_relaxed);
  int h = 0;
  atomic_compare_exchange_strong_explicit(list, &h, 1, memory_order_seq_cst, memory_order_seq_cst);
}
exists (0:l=1 /\ 0:d=0 /\ 1:h=0)
)"},
};

}  // namespace

std::span<const Case> cases_of_the_list() { return kCases; }

}  // namespace imgconv::history
