// Scenario: one convert of many, for tests that run each of them in every order or with every
// fault.
//
// Knows the files before, the options, and what the guest must see afterwards; runs nothing itself.
// Expected bytes are put together here and not read back from images.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/convert.h"
#include "tests/support/convert_fixture.h"
#include "tests/support/mem_storage.h"

namespace imgconv::test {

enum class SourceKind : uint8_t {
  kRaw,
  /// qcow2 with data, compressed, zero and unallocated clusters.
  kQcow2,
  /// The same over a backing image that is shorter.
  kOverlay,
};

enum class TargetKind : uint8_t {
  kRaw,
  kQcow2,
  kCompressed,
  kZstd,
  kExtendedL2,
  /// -n, larger than the source and full of old data.
  kExistingRaw,
  kExistingQcow2,
  kExistingCompressed,
  /// -B with the source's own backing image.
  kBacked,
};

/// Files and expectations are made once, since a scenario is run many times.
struct Scenario {
  std::string name;
  ConvertOptions options;
  /// The files that are there before, by name.
  std::map<std::string, Bytes> files;
  /// What the guest sees in the target afterwards.
  Bytes expected;

  void add_files(MemStorage& storage) const;
};

/// A disk of so many sectors; an odd number cuts clusters.
Scenario make_scenario(SourceKind source, TargetKind target, uint64_t seed, size_t sectors);
/// Every pair of kinds.
std::vector<Scenario> all_scenarios(uint64_t seed, size_t sectors);

/// Requires the target to hold what is expected and, if qcow2, to be without leaks and corruptions.
/// `storage` holds the files after the convert.
void require_right(const Scenario& scenario, MemStorage& storage);

}  // namespace imgconv::test
