// The builder is an oracle for our reader, so the genuine tools judge it here.
#include "tests/support/qcow2_builder.h"

#include <catch2/catch.hpp>

#include "tests/support/pattern.h"
#include "tests/support/qemu_img.h"
#include "tests/support/temp_dir.h"

namespace imgconv::test {
namespace {

/// Builds, lets `qemu-img check` judge, and converts to raw with the genuine tool.
class Judge {
 public:
  explicit Judge(const Qcow2Builder& builder) : built_(builder.build()) {
    write_file(directory_.file("image.qcow2"), built_.bytes);
    if (!built_.data_file_bytes.empty()) {
      write_file(directory_.file("data"), built_.data_file_bytes);
    }
    const CommandResult check = qemu_img({"check", "-f", "qcow2", "image.qcow2"}, directory());
    INFO(check.out << check.err);
    CHECK(check.exit_status == 0);
    CHECK(check.err.empty());
  }

  const std::string& directory() const { return directory_.path(); }
  const BuiltQcow2& built() const { return built_; }

  std::vector<std::byte> guest(const std::vector<std::string>& more_arguments = {}) const {
    std::vector<std::string> arguments{"convert", "-f", "qcow2", "-O", "raw"};
    arguments.insert(arguments.end(), more_arguments.begin(), more_arguments.end());
    arguments.insert(arguments.end(), {"image.qcow2", "out.raw"});
    const CommandResult converted = qemu_img(arguments, directory());
    INFO(converted.err);
    REQUIRE(converted.exit_status == 0);
    return read_file(directory_.file("out.raw"));
  }

 private:
  const TempDir directory_;
  const BuiltQcow2 built_;
};

std::span<const std::byte> part(const std::vector<std::byte>& bytes, size_t offset, size_t length) {
  return std::span(bytes).subspan(offset, length);
}

TEST_CASE("Qcow2Builder: every cluster size and codec is clean and reads as told", "[support]") {
  if (skip_without_qemu_img()) return;
  const uint32_t bits = GENERATE(9U, 12U, 14U, 16U, 21U);
  const BuilderCodec codec = GENERATE(BuilderCodec::kDeflate, BuilderCodec::kZstd);
  const uint64_t cluster = uint64_t{1} << bits;
  Qcow2Builder builder;
  builder.cluster_bits(bits).size(10 * cluster - 512);
  builder.compression_type(codec == BuilderCodec::kZstd ? 1 : 0);
  builder.data(0, pattern(0, cluster)).zero_plain(1).zero_alloc(2);
  builder.compressed(4, pattern(4 * cluster, cluster), codec);
  builder.compressed(5, pattern(5 * cluster, cluster), codec);
  builder.skip_host_clusters(2).data(9, pattern(9 * cluster, cluster));

  const std::vector<std::byte> guest = Judge(builder).guest();
  CHECK(guest.size() == 10 * cluster - 512);
  CHECK(is_pattern(part(guest, 0, cluster), 0));
  CHECK(is_zero(part(guest, cluster, 3 * cluster)));
  CHECK(is_pattern(part(guest, 4 * cluster, 2 * cluster), 4 * cluster));
  CHECK(is_zero(part(guest, 6 * cluster, 3 * cluster)));
  CHECK(is_pattern(part(guest, 9 * cluster, cluster - 512), 9 * cluster));
}

TEST_CASE("Qcow2Builder: every refcount width is clean", "[support]") {
  if (skip_without_qemu_img()) return;
  const uint32_t order = GENERATE(0U, 1U, 2U, 3U, 4U, 5U, 6U);
  Qcow2Builder builder;
  builder.cluster_bits(9).refcount_order(order).size(256 * 512);
  for (uint64_t i = 0; i < 256; ++i) builder.data(i, pattern(i * 512, 512));
  CHECK(is_pattern(Judge(builder).guest(), 0));
}

TEST_CASE("Qcow2Builder: version 2 has a 72 byte header and a backing name", "[support]") {
  if (skip_without_qemu_img()) return;
  Qcow2Builder builder;
  builder.version(2).size(131072).data(1, pattern(65536, 65536));
  CHECK(is_pattern(part(Judge(builder).guest(), 65536, 65536), 65536));
  builder.backing("base.raw", "raw");
  const TempDir directory;
  write_file(directory.file("image.qcow2"), builder.bytes());
  const CommandResult info = qemu_img({"info", "-f", "qcow2", "image.qcow2"}, directory.path());
  CHECK(info.out.find("compat: 0.10") != std::string::npos);
  CHECK(info.out.find("backing file: base.raw") != std::string::npos);
  CHECK(info.out.find("backing file format: raw") != std::string::npos);
}

TEST_CASE("Qcow2Builder: subclusters are allocated, zero or neither", "[support]") {
  if (skip_without_qemu_img()) return;
  Qcow2Builder builder;
  builder.extended_l2().size(4 * 65536);
  builder.data(0, pattern(0, 65536)).subclusters(0, uint64_t{2} << 32 | 1);
  builder.zero_plain(1).subclusters(2, uint64_t{0xff} << 32).data(3, pattern(196608, 65536));
  const std::vector<std::byte> guest = Judge(builder).guest();
  CHECK(is_pattern(part(guest, 0, 2048), 0));
  CHECK(is_zero(part(guest, 2048, 196608 - 2048)));
  CHECK(is_pattern(part(guest, 196608, 65536), 196608));
}

TEST_CASE("Qcow2Builder: a snapshot keeps what the guest saw and shares the rest", "[support]") {
  if (skip_without_qemu_img()) return;
  Qcow2Builder builder;
  builder.size(3 * 65536).data(0, pattern(0, 65536)).data(1, pattern(65536, 65536));
  BuilderSnapshot first;
  first.name = "before";
  builder.snapshot(first).data(1, pattern(65536, 65536, 7));
  const Judge judge(builder);
  CHECK(is_pattern(part(judge.guest(), 65536, 65536), 65536, 7));
  CHECK(is_pattern(part(judge.guest({"-l", "before"}), 0, 131072), 0));
}

TEST_CASE("Qcow2Builder: guest data can stand in an external file", "[support]") {
  if (skip_without_qemu_img()) return;
  Qcow2Builder builder;
  builder.data_file("data").size(2 * 65536).data(0, pattern(0, 65536)).zero_alloc(1);
  const std::vector<std::byte> guest = Judge(builder).guest();
  CHECK(is_pattern(part(guest, 0, 65536), 0));
  CHECK(is_zero(part(guest, 65536, 65536)));
}

TEST_CASE("Qcow2Builder: unknown extensions, long headers and names are accepted", "[support]") {
  if (skip_without_qemu_img()) return;
  Qcow2Builder builder;
  builder.size(65536).header_length(120).feature_name(1, 5, "made up").compatible(32);
  builder.extension(0x12345678, pattern(0, 13));
  Judge judge(builder);
}

TEST_CASE("Qcow2Builder: lies are told", "[support]") {
  if (skip_without_qemu_img()) return;
  Qcow2Builder builder;
  builder.size(65536).data(0, pattern(0, 65536));
  const uint64_t host_cluster = builder.build().host_offset_of_guest_cluster.at(0) / 65536;
  builder.set_refcount(host_cluster, 3);
  const TempDir directory;
  write_file(directory.file("image.qcow2"), builder.bytes());
  const CommandResult check = qemu_img({"check", "image.qcow2"}, directory.path());
  CHECK(check.err.find("refcount=3 reference=1") != std::string::npos);

  const BuiltQcow2 lying = builder.l2(0, 0x1234).poke_be32(4, 9).file_length(500000).build();
  CHECK(lying.bytes.size() == 500000);
  CHECK(lying.bytes[7] == std::byte{9});
  CHECK(lying.bytes[lying.l2_offset_of_l1_index.at(0) + 6] == std::byte{0x12});
}

}  // namespace
}  // namespace imgconv::test
