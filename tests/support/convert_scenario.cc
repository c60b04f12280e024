#include "tests/support/convert_scenario.h"

#include <fmt/core.h>

#include <random>

#include "engine/open_image.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::test {

namespace {

constexpr unsigned kClusterBits = 12;
constexpr uint64_t kClusterSize = uint64_t{1} << kClusterBits;
constexpr uint16_t kOldSeed = 7;

struct Made {
  Bytes file;
  Bytes guest;
};

/// Every kind of cluster at random; what is unallocated shows `below`.
Made make_qcow2(uint64_t seed, size_t sectors, const Bytes& below) {
  std::mt19937_64 random(seed);
  Made made;
  made.guest.resize(sectors * kSectorSize);
  std::copy(below.begin(), below.end(), made.guest.begin());
  Qcow2Builder builder;
  builder.cluster_bits(kClusterBits).size(made.guest.size());
  if (!below.empty()) builder.backing("base", "raw");
  for (uint64_t begin = 0; begin < made.guest.size(); begin += kClusterSize) {
    const uint64_t cluster = begin / kClusterSize;
    const std::span<std::byte> bytes =
        std::span(made.guest).subspan(begin, std::min(kClusterSize, made.guest.size() - begin));
    switch (random() % 5) {
      case 0:
      case 1:
        fill_pattern(bytes, begin);
        builder.data(cluster, bytes);
        break;
      case 2:
        fill_pattern(bytes.first(bytes.size() / 2), begin);
        std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(bytes.size() / 2), bytes.end(),
                  std::byte{0});
        builder.compressed(cluster, bytes);
        break;
      case 3:
        std::fill(bytes.begin(), bytes.end(), std::byte{0});
        builder.zero_plain(cluster);
        break;
      default:
        break;
    }
  }
  made.file = builder.bytes();
  return made;
}

bool is_existing(TargetKind kind) {
  return kind == TargetKind::kExistingRaw || kind == TargetKind::kExistingQcow2 ||
         kind == TargetKind::kExistingCompressed;
}

bool is_raw(TargetKind kind) {
  return kind == TargetKind::kRaw || kind == TargetKind::kExistingRaw;
}

/// Full of data, every third cluster of it compressed.
Made make_old_target(TargetKind kind, size_t sectors) {
  Made made;
  made.guest = pattern(0, sectors * kSectorSize, kOldSeed);
  if (is_raw(kind)) return {made.guest, made.guest};
  Qcow2Builder builder;
  builder.cluster_bits(kClusterBits).size(made.guest.size());
  for (uint64_t begin = 0; begin < made.guest.size(); begin += kClusterSize) {
    const std::span<const std::byte> bytes =
        std::span(made.guest).subspan(begin, std::min(kClusterSize, made.guest.size() - begin));
    const uint64_t cluster = begin / kClusterSize;
    if (cluster % 3 == 0) {
      builder.compressed(cluster, bytes);
    } else {
      builder.data(cluster, bytes);
    }
  }
  made.file = builder.bytes();
  return made;
}

const char* name_of(SourceKind kind) {
  constexpr const char* kNames[] = {"raw", "qcow2", "overlay"};
  return kNames[static_cast<size_t>(kind)];
}

const char* name_of(TargetKind kind) {
  constexpr const char* kNames[] = {
      "raw",         "qcow2",        "qcow2 -c",       "qcow2 -c zstd",
      "extended L2", "existing raw", "existing qcow2", "existing qcow2 -c",
      "-B"};
  return kNames[static_cast<size_t>(kind)];
}

ConvertOptions make_options(SourceKind source, TargetKind target) {
  ConvertOptions options = options_for("source", "out", is_raw(target) ? "raw" : "qcow2");
  options.source_format = source == SourceKind::kRaw ? "raw" : "qcow2";
  options.skip_create = is_existing(target);
  options.compress = target == TargetKind::kCompressed || target == TargetKind::kZstd ||
                     target == TargetKind::kExistingCompressed;
  if (target == TargetKind::kExtendedL2) {
    options.target_options = "cluster_size=16384,extended_l2=on";
  } else if (target == TargetKind::kZstd) {
    options.target_options = "cluster_size=4096,compression_type=zstd";
  } else if (!is_raw(target) && !is_existing(target)) {
    options.target_options = "cluster_size=4096";
  }
  if (target == TargetKind::kBacked) {
    options.backing_file = "base";
    options.backing_format = "raw";
  }
  return options;
}

}  // namespace

void Scenario::add_files(MemStorage& storage) const {
  for (const auto& [path, bytes] : files) storage.add(path, bytes);
}

Scenario make_scenario(SourceKind source, TargetKind target, uint64_t seed, size_t sectors) {
  Scenario scenario;
  scenario.name = fmt::format("{} -> {}, seed {}", name_of(source), name_of(target), seed);
  scenario.options = make_options(source, target);
  const Bytes base = random_disk(seed + 1000, sectors * 2 / 3);
  const bool is_overlay = source == SourceKind::kOverlay;
  if (is_overlay || target == TargetKind::kBacked) scenario.files["base"] = base;
  if (source == SourceKind::kRaw) {
    scenario.expected = random_disk(seed, sectors);
    scenario.files["source"] = scenario.expected;
  } else {
    Made made = make_qcow2(seed, sectors, is_overlay ? base : Bytes());
    scenario.expected = std::move(made.guest);
    scenario.files["source"] = std::move(made.file);
  }
  if (is_existing(target)) {
    Made old = make_old_target(target, sectors + sectors / 8);
    std::copy(scenario.expected.begin(), scenario.expected.end(), old.guest.begin());
    scenario.expected = std::move(old.guest);
    scenario.files["out"] = std::move(old.file);
  }
  return scenario;
}

std::vector<Scenario> all_scenarios(uint64_t seed, size_t sectors) {
  std::vector<Scenario> scenarios;
  for (const SourceKind source : {SourceKind::kRaw, SourceKind::kQcow2, SourceKind::kOverlay}) {
    for (const TargetKind target :
         {TargetKind::kRaw, TargetKind::kQcow2, TargetKind::kCompressed, TargetKind::kZstd,
          TargetKind::kExtendedL2, TargetKind::kExistingRaw, TargetKind::kExistingQcow2,
          TargetKind::kExistingCompressed, TargetKind::kBacked}) {
      scenarios.push_back(make_scenario(source, target, seed, sectors));
    }
  }
  return scenarios;
}

void require_right(const Scenario& scenario, MemStorage& storage) {
  storage.set_wrapper({});
  if (scenario.options.target_format == "qcow2") {
    ImageRequest request;
    request.name = "out";
    request.format = "qcow2";
    request.with_backing = false;
    request.for_check = true;
    RecordingMessages messages;
    const auto chain = run_inline(open_image(storage, request, messages));
    REQUIRE_THAT(chain, IsOk());
    const auto report = run_inline((*chain)->top().check([](const std::string&) {}));
    REQUIRE_THAT(report, IsOk());
    REQUIRE(report->corruptions == 0);
    REQUIRE(report->leaks == 0);
    REQUIRE(report->check_errors == 0);
  }
  REQUIRE(is_equal(guest_bytes(storage, "out"), scenario.expected));
}

}  // namespace imgconv::test
