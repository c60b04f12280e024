// Runs a scenario under the checker and judges it: the code as shipped must hold in every schedule
// tried, each mutant must fail in one of them. A checker that cannot fail a mutant proves nothing
// about the original, so a surviving mutant fails the program.
#pragma once

#include "tests/model/relacy_sync.h"

#include <cstdio>
#include <ostream>

namespace imgconv::model {

/// Random schedules per scenario. Mutants die within the first few thousand; the figures are in the
/// output.
inline constexpr rl::iteration_t kSchedules = 500'000;

class Verdict {
 public:
  explicit Verdict(const char* protocol) : protocol_(protocol) {}

  /// The scenario with the code as shipped.
  template <class Scenario>
  void must_hold(const char* scenario) {
    weakened_site.reset();
    report(scenario, "as shipped", run<Scenario>(), /*must_fail=*/false);
  }

  /// The scenario with one fence removed, or one order relaxed.
  template <class Scenario>
  void must_fail(const char* scenario, Site site, const char* site_name) {
    weakened_site = site;
    report(scenario, site_name, run<Scenario>(), /*must_fail=*/true);
    weakened_site.reset();
  }

  /// A scenario that itself leaves out a step.
  template <class Scenario>
  void must_fail(const char* scenario, const char* left_out) {
    weakened_site.reset();
    report(scenario, left_out, run<Scenario>(), /*must_fail=*/true);
  }

  int exit_code() const { return num_wrong_ == 0 ? 0 : 1; }

 private:
  template <class Scenario>
  static rl::test_params run() {
    // Relacy replaces operator new while it runs, so a stream that allocates must not be used.
    std::ostream silent(nullptr);
    rl::test_params params;
    params.iteration_count = kSchedules;
    params.output_stream = &silent;
    params.progress_stream = &silent;
    rl::simulate<Scenario>(params);
    return params;
  }

  void report(const char* scenario, const char* variant, const rl::test_params& result,
              bool must_fail) {
    const bool failed = result.test_result != rl::test_result_success;
    const bool right = failed == must_fail;
    std::printf("%-5s %s: %s, %s: %s after %llu schedules\n", right ? "ok" : "WRONG", protocol_,
                scenario, variant, failed ? rl::test_result_str(result.test_result) : "holds",
                static_cast<unsigned long long>(result.stop_iteration));
    std::fflush(stdout);
    if (!right) ++num_wrong_;
  }

  const char* protocol_;
  int num_wrong_ = 0;
};

/// must_fail with the site's own name: IMGCONV_MUTANT(verdict, OneProducer, kGateArm).
#define IMGCONV_MUTANT(verdict, Scenario, site) \
  (verdict).must_fail<Scenario>(#Scenario, Site::site, #site)
#define IMGCONV_HOLDS(verdict, Scenario) (verdict).must_hold<Scenario>(#Scenario)

}  // namespace imgconv::model
