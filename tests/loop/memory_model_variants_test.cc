// The verdicts on the history of QEMU's event loop, by hand, from the reports and from reasoning;
// the explorer has to agree. Where a verdict surprises, the comment says why it is right.
#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <string_view>

#include "loop/history/case_file.h"
#include "loop/memory_model/litmus.h"
#include "tests/support/litmus_shapes.h"

namespace imgconv {
namespace {

struct Expected {
  std::string_view id;
  /// As in test::Shape::allowed: sc, x86-tso, armv8-llsc, armv8-lse, armv8-rcpc, c++20.
  std::string_view lost;
};

constexpr Expected kExpected[] = {
    // A wrong question, not a missing order: lost under any model.
    {"V1", "SXLERC"},

    // Store, then load of another word, on both sides. x86 delays the store; so do all others.
    {"V2_both", ".XLERC"},
    {"V2_fixK_only", ".XLERC"},
    {"V2_fixM_only", ".XLERC"},
    // Who comes second reads from the first.
    {"V2_fixed", "......"},

    // The LOCK prefix saves x86. LSE's LDSETAL is ordered before all that follows, also by its
    // write (bob: [range([A]; amo; [L])]; po), so the Hi1620 and the ThunderX2 would have been
    // safe in their own instruction set; the distribution's binaries used LDAXR and STLXR.
    {"V3", "..L.RC"},
    {"V3_poll", "..L.RC"},
    // The worker's plain store is in order behind a DMB and a release: the hole is the loop's.
    {"V3_oneshot", "..L.RC"},
    // Two read-modify-writes of notify_me in a row do not order the load either.
    {"V3_zhengui", "..L.RC"},
    // 30 clean runs are no luck.
    {"V3a_mutex", "......"},
    {"V3b_smp_mb", "......"},
    {"V3b_poll", "......"},
    // Each hung in the first run on a Hi1620, as these say.
    {"V3c_asposted", "..L.RC"},
    {"V3d_asposted", "..L.RC"},
    {"V3e_asposted", "..L.RC"},
    // [L]; po; [A] on both sides. RCpc does not hurt: a seq_cst load stays LDAR.
    {"V3e_sc", "......"},
    // Other addresses, the same order.
    {"V3f_padding", "..L.RC"},
    // The hang of the reporter who ported it is of another place: that patch alone loses nothing.
    {"V3g_always", "......"},
    {"V3h_sync_gcc", "......"},
    {"V3i_relfence", "......"},
    // What cppmem said is c++20's column. A seq_cst *store* is STLR in LSE, too, hence the E: LSE
    // changes read-modify-writes alone. On x86 it is XCHG.
    {"V3k_cppmem1", "..LERC"},
    {"V3k_cppmem2", "..L.RC"},
    {"V3k_cppmem3", "......"},

    {"V4_prepare", "..L.RC"},
    {"V4_poll", "..L.RC"},
    {"V4a_prepare", "......"},
    // The patch left this path as it was.
    {"V4a_poll", "..L.RC"},

    {"V5", "......"},
    // Without the read-modify-write nothing saves x86.
    {"V5_noMfence", ".XLERC"},
    // Here the worker's compare-exchange does, as the loop's fetch_or did in V3.
    {"V5_noKfence", "..L.RC"},

    {"V6_pending", "......"},
    {"V6_list", "......"},

    {"V7_old", "..L.RC"},
    {"V7_fixed", "......"},
    // The kicker's plain store and load: not even x86.
    {"V8_old", ".XLERC"},
    {"V8_fixed", "......"},
    // STLXR before LDAR is kept in order by [L]; po; [A], which is more than C++ asks for. LDAPR is
    // the instruction that takes it back; with LSE, CASAL keeps the order by itself.
    {"V9_old", "....RC"},
    {"V9_fixed", "......"},

    {"V10_2014", ".XLERC"},
    {"V10_rmw", "......"},

    // C++ alone: the worker's fence is a release, and the order between a seq_cst compare-exchange
    // and a later store is nothing that the loop's seq_cst fence could meet. Every compiler's
    // release fence is a DMB ISH, and x86 keeps stores in order.
    {"V11_accept_store", ".....C"},
    {"V11_sleep", "......"},

    {"current", "......"},
};

}  // namespace

TEST_CASE("Case file: each variant has the verdicts that reports and reasoning give it",
          "[loop][memory_model][history]") {
  for (const Expected& expected : kExpected) {
    INFO(expected.id);
    const history::Case* const variant = history::find_case(expected.id);
    REQUIRE(variant != nullptr);
    CHECK(test::allowed_by(variant->litmus) == expected.lost);
  }
  CHECK(history::case_file().size() == std::size(kExpected));
}

TEST_CASE("Case file: each entry is complete, and named after its litmus test",
          "[loop][memory_model][history]") {
  for (const history::Case& variant : history::case_file()) {
    INFO(variant.id);
    CHECK_FALSE(variant.title.empty());
    CHECK_FALSE(variant.summary.empty());
    CHECK_FALSE(variant.source.document.empty());
    CHECK_FALSE(variant.source.year.empty());
    CHECK_FALSE(variant.observed.empty());
    const memory_model::Program program = memory_model::parse_litmus(variant.litmus).value();
    CHECK(program.name == variant.id);
    for (size_t i = 0; i < variant.sides.size(); ++i) {
      CHECK(variant.sides[i].empty() == (i >= program.threads.size()));
    }
    CHECK(history::find_case(variant.id) == &variant);
  }
  CHECK(history::find_case("V12") == nullptr);
  CHECK_FALSE(history::red_herrings().empty());
}

}  // namespace imgconv
