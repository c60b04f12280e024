#include "formats/qcow2/header_update.h"

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <string>

#include "tests/formats/qcow2_disk.h"
#include "tests/support/crash_log.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::qcow2 {

namespace {

using namespace imgconv::test;

using Bytes = std::vector<std::byte>;

constexpr const char* kName = "disk.qcow2";

/// What a reader gets to know from a header.
std::string summary(std::span<const std::byte> file) {
  const Result<Header> header = Header::parse(file);
  if (!header) return "refused: " + header.error().text();
  std::string text =
      fmt::format("backing '{}' '{}', autoclear {}", header->backing_file,
                  header->extensions.backing_format.value_or("-"), header->autoclear_features);
  if (const auto& bitmaps = header->extensions.bitmaps) {
    text +=
        fmt::format(", {} bitmaps at {}", bitmaps->bitmap_count, bitmaps->directory_offset.bytes());
  }
  for (const UnknownExtension& extension : header->extensions.unknown) {
    text += fmt::format(", {:x}: {} bytes", extension.type, extension.data.size());
    for (const std::byte byte : extension.data) text += byte == std::byte{0xab} ? "" : "!";
  }
  return text;
}

Header header_of(MemStorage& storage) {
  Result<Header> header = Header::parse(storage.bytes(kName));
  REQUIRE_THAT(header, IsOk());
  return *header;
}

/// Updates the header, and wants to find the old or the new one after a crash.
void update_and_judge(MemStorage& storage, const Header& changed) {
  const std::string old_summary = summary(storage.bytes(kName));
  CrashLog log(storage);
  log.start();
  const std::unique_ptr<File> file = storage.file(kName);
  REQUIRE_THAT(run_inline(update_header(*file, changed)), IsOk());
  const std::string new_summary = summary(storage.bytes(kName));
  CHECK(new_summary != old_summary);
  CHECK(storage.bytes(kName).size() > changed.cluster_size());
  const Bytes cluster0 = *changed.serialize();
  const Bytes written = storage.bytes(kName);
  CHECK(std::equal(cluster0.begin(), cluster0.end(), written.begin()));
  for (uint32_t seed = 0; seed < 64; ++seed) {
    log.for_each_state(seed, 2, [&](const CrashState& state) {
      const std::string found = summary(state.files.at(kName));
      INFO(state.description);
      if (found != old_summary && found != new_summary) FAIL(found);
    });
  }
}

}  // namespace

TEST_CASE("update_header: a crash leaves the old header or the new one, torn writes included",
          "[formats][qcow2][crash]") {
  const auto [cluster_bits, backing_bytes] =
      GENERATE(std::make_pair(16U, 0U), std::make_pair(16U, 8U), std::make_pair(16U, 900U),
               std::make_pair(13U, 600U), std::make_pair(9U, 100U));
  INFO("cluster bits " << cluster_bits << ", backing name of " << backing_bytes);
  Qcow2Builder builder;
  builder.cluster_bits(cluster_bits).size(kMiB);
  if (backing_bytes != 0) builder.backing(std::string(backing_bytes, 'b'), "raw");
  builder.extension(0x12345678, std::vector<std::byte>(100, std::byte{0xab}));
  MemStorage storage;
  storage.add(kName, builder.bytes());
  // As we write it from now on: extensions in our order, and the table of names.
  Header header = header_of(storage);
  REQUIRE_THAT(run_inline(update_header(*storage.file(kName), header)), IsOk());

  header.extensions.bitmaps = BitmapsExtension{1, 32, HostOffset(uint64_t{5} << cluster_bits)};
  header.autoclear_features |= kAutoclearBitmaps;
  update_and_judge(storage, header);
  header.extensions.bitmaps->directory_offset = HostOffset(uint64_t{7} << cluster_bits);
  update_and_judge(storage, header);
  header.backing_file = "another";
  header.extensions.backing_format = "qcow2";
  update_and_judge(storage, header);
  header.extensions.bitmaps.reset();
  header.autoclear_features = 0;
  update_and_judge(storage, header);
}

TEST_CASE("update_header: a header that does not fit changes nothing", "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.cluster_bits(9).size(kMiB).backing(std::string(360, 'b'), "raw");
  MemStorage storage;
  storage.add(kName, builder.bytes());
  Header header = header_of(storage);
  header.extensions.bitmaps.emplace();
  CHECK_THAT(run_inline(update_header(*storage.file(kName), header)), FailsWith(ENOSPC));
  CHECK(storage.bytes(kName) == builder.bytes());
}

}  // namespace imgconv::qcow2
