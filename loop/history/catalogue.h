// The catalogue: which type and which options are each id of the case file. One list, from which
// loop_protocol.cc makes protocols and the tests make programs.
#pragma once

#include <string_view>

#include "loop/history/accept.h"
#include "loop/history/bh_flag.h"
#include "loop/history/bh_list.h"
#include "loop/history/current.h"
#include "loop/history/notify_me.h"
#include "loop/history/waiters.h"

namespace imgconv::history {

namespace options {

inline constexpr BhFlagOptions kV2Both{.schedule = BhSchedule::kLoadThenStore,
                                       .clear = BhClear::kStoreThenReadFence};
inline constexpr BhFlagOptions kV2WorkerFixed{.clear = BhClear::kStoreThenReadFence};
inline constexpr BhFlagOptions kV2LoopFixed{.schedule = BhSchedule::kLoadThenStore};
inline constexpr BhFlagOptions kV2Fixed{};
inline constexpr BhFlagOptions kV10Store{.clear = BhClear::kStore, .reschedules_itself = true};
inline constexpr BhFlagOptions kV10Exchange{.reschedules_itself = true};

inline constexpr NotifyMeOptions kV3{};
inline constexpr NotifyMeOptions kV3Poll{
    .announce = Announce::kAdd, .announced = 2, .withdraw = Withdraw::kSubtract};
inline constexpr NotifyMeOptions kV3Oneshot{.schedule = Schedule::kOneshotUnderLock};
inline constexpr NotifyMeOptions kV3Zhengui{
    .withdraw = Withdraw::kMark, .mark = 2, .program_begins_with_check = true};
inline constexpr NotifyMeOptions kV3Mutex{.announce = Announce::kOrUnderMutex,
                                          .withdraw = Withdraw::kAndUnderMutex,
                                          .notify = Notify::kLoadUnderMutex};
inline constexpr NotifyMeOptions kV3SmpMb{.announce_fence = true};
inline constexpr NotifyMeOptions kV3SmpMbPoll{.announce = Announce::kAdd,
                                              .announced = 2,
                                              .announce_fence = true,
                                              .withdraw = Withdraw::kSubtract};
inline constexpr NotifyMeOptions kV3Patch1{
    .withdraw = Withdraw::kMark, .mark = 4, .check_looks = true, .program_ends_with_check = true};
inline constexpr NotifyMeOptions kV3Patch2{.notify = Notify::kLoadAcquire};
inline constexpr NotifyMeOptions kV3BothPatches{.withdraw = Withdraw::kMark,
                                                .mark = 4,
                                                .check_looks = true,
                                                .notify = Notify::kLoadAcquire,
                                                .program_ends_with_check = true};
inline constexpr NotifyMeOptions kV3AllSeqCst{.look_order = std::memory_order_seq_cst,
                                              .notify = Notify::kLoadSeqCst};
inline constexpr NotifyMeOptions kV3Padded{.is_padded = true};
inline constexpr NotifyMeOptions kV3Always{.notify = Notify::kAlways};
inline constexpr NotifyMeOptions kV3GccSync{.announce = Announce::kGccSyncOr};
inline constexpr NotifyMeOptions kV3ReleaseThenFence{.announce = Announce::kAdd,
                                                     .announced = 2,
                                                     .announce_order = std::memory_order_release,
                                                     .announce_fence = true,
                                                     .withdraw = Withdraw::kSubtract};
inline constexpr NotifyMeOptions kV3Cppmem1{.announce = Announce::kStore,
                                            .announced = 2,
                                            .withdraw = Withdraw::kStore,
                                            .schedule = Schedule::kStoreRelease};
inline constexpr NotifyMeOptions kV3Cppmem2{.announce = Announce::kCompareExchange,
                                            .announced = 2,
                                            .withdraw = Withdraw::kStore,
                                            .schedule = Schedule::kStoreRelease};
inline constexpr NotifyMeOptions kV3Cppmem3{.announce = Announce::kCompareExchange,
                                            .announced = 2,
                                            .announce_order = std::memory_order_release,
                                            .announce_fence = true,
                                            .withdraw = Withdraw::kStore,
                                            .schedule = Schedule::kStoreRelease};

inline constexpr NotifyMeOptions kV4Prepare{.schedule = Schedule::kList};
inline constexpr NotifyMeOptions kV4Poll{.announce = Announce::kAdd,
                                         .announced = 2,
                                         .withdraw = Withdraw::kSubtract,
                                         .schedule = Schedule::kList};
inline constexpr NotifyMeOptions kV4FangPrepare{.announce_fence = true,
                                                .schedule = Schedule::kList};

inline constexpr NotifyMeOptions kV5{.announce = Announce::kStore,
                                     .announce_order = std::memory_order_relaxed,
                                     .announce_fence = true,
                                     .withdraw = Withdraw::kStore,
                                     .schedule = Schedule::kList};
inline constexpr NotifyMeOptions kV5NoLoopFence{.announce = Announce::kStore,
                                                .announce_order = std::memory_order_relaxed,
                                                .withdraw = Withdraw::kStore,
                                                .schedule = Schedule::kList};
inline constexpr NotifyMeOptions kV5NoWorkerFence{.announce = Announce::kStore,
                                                  .announce_order = std::memory_order_relaxed,
                                                  .announce_fence = true,
                                                  .withdraw = Withdraw::kStore,
                                                  .schedule = Schedule::kList,
                                                  .notify = Notify::kLoad};

}  // namespace options

/// Calls `visitor.template operator()<Variant>(id)` for each id whose program has two sides, in the
/// order of the case file. That is all but V1, which takes three threads: nested_poller.h.
template <class Sync, class Visitor>
void visit_catalogue(Visitor visitor) {
  using namespace options;
  visitor.template operator()<BhFlag<Sync, kV2Both>>("V2_both");
  visitor.template operator()<BhFlag<Sync, kV2WorkerFixed>>("V2_fixK_only");
  visitor.template operator()<BhFlag<Sync, kV2LoopFixed>>("V2_fixM_only");
  visitor.template operator()<BhFlag<Sync, kV2Fixed>>("V2_fixed");
  visitor.template operator()<NotifyMe<Sync, kV3>>("V3");
  visitor.template operator()<NotifyMe<Sync, kV3Poll>>("V3_poll");
  visitor.template operator()<NotifyMe<Sync, kV3Oneshot>>("V3_oneshot");
  visitor.template operator()<NotifyMe<Sync, kV3Zhengui>>("V3_zhengui");
  visitor.template operator()<NotifyMe<Sync, kV3Mutex>>("V3a_mutex");
  visitor.template operator()<NotifyMe<Sync, kV3SmpMb>>("V3b_smp_mb");
  visitor.template operator()<NotifyMe<Sync, kV3SmpMbPoll>>("V3b_poll");
  visitor.template operator()<NotifyMe<Sync, kV3Patch1>>("V3c_asposted");
  visitor.template operator()<NotifyMe<Sync, kV3Patch2>>("V3d_asposted");
  visitor.template operator()<NotifyMe<Sync, kV3BothPatches>>("V3e_asposted");
  visitor.template operator()<NotifyMe<Sync, kV3AllSeqCst>>("V3e_sc");
  // A red herring: padding changes no order.
  visitor.template operator()<NotifyMe<Sync, kV3Padded>>("V3f_padding");
  visitor.template operator()<NotifyMe<Sync, kV3Always>>("V3g_always");
  visitor.template operator()<NotifyMe<Sync, kV3GccSync>>("V3h_sync_gcc");
  visitor.template operator()<NotifyMe<Sync, kV3ReleaseThenFence>>("V3i_relfence");
  visitor.template operator()<NotifyMe<Sync, kV3Cppmem1>>("V3k_cppmem1");
  visitor.template operator()<NotifyMe<Sync, kV3Cppmem2>>("V3k_cppmem2");
  visitor.template operator()<NotifyMe<Sync, kV3Cppmem3>>("V3k_cppmem3");
  visitor.template operator()<NotifyMe<Sync, kV4Prepare>>("V4_prepare");
  visitor.template operator()<NotifyMe<Sync, kV4Poll>>("V4_poll");
  visitor.template operator()<NotifyMe<Sync, kV4FangPrepare>>("V4a_prepare");
  visitor.template operator()<NotifyMe<Sync, kV4Poll>>("V4a_poll");
  visitor.template operator()<NotifyMe<Sync, kV5>>("V5");
  visitor.template operator()<NotifyMe<Sync, kV5NoLoopFence>>("V5_noMfence");
  visitor.template operator()<NotifyMe<Sync, kV5NoWorkerFence>>("V5_noKfence");
  visitor.template operator()<BhList<Sync, BhListMeeting::kFlags>>("V6_pending");
  visitor.template operator()<BhList<Sync, BhListMeeting::kList>>("V6_list");
  visitor.template operator()<QemuEvent<Sync, EventReset::kReadThenOr>>("V7_old");
  visitor.template operator()<QemuEvent<Sync, EventReset::kOrThenFence>>("V7_fixed");
  visitor.template operator()<QemuAioWait<Sync, Barriers::kNone>>("V8_old");
  visitor.template operator()<QemuAioWait<Sync, Barriers::kBothSides>>("V8_fixed");
  visitor.template operator()<QemuCoMutex<Sync, HandoffLook::kAcquire>>("V9_old");
  visitor.template operator()<QemuCoMutex<Sync, HandoffLook::kFenceThenRelaxed>>("V9_fixed");
  visitor.template operator()<BhFlag<Sync, kV10Store>>("V10_2014");
  visitor.template operator()<BhFlag<Sync, kV10Exchange>>("V10_rmw");
  visitor.template operator()<Accept<Sync, AcceptProgram::kAccept>>("V11_accept_store");
  visitor.template operator()<Accept<Sync, AcceptProgram::kSleep>>("V11_sleep");
  visitor.template operator()<Current<Sync>>("current");
}

}  // namespace imgconv::history
