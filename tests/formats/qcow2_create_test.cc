#include "formats/qcow2/create.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <map>
#include <memory>

#include "formats/qcow2/check.h"
#include "loop/pool_file.h"
#include "loop/units.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_file.h"
#include "tests/support/qemu_img.h"
#include "tests/support/temp_dir.h"

namespace imgconv::qcow2 {
namespace {

using test::FailsSaying;
using test::FailsWith;
using test::IsOk;

CreateImageOptions request_for(uint64_t size, const std::string& options) {
  CreateImageOptions request;
  request.virtual_size = size;
  request.options = *parse_options(create_options(), options);
  return request;
}

/// A file in memory behind the interface that drivers use.
struct MemoryFile {
  test::InlineExecutor executor;
  std::shared_ptr<test::MemContent> content = std::make_shared<test::MemContent>();
  std::unique_ptr<File> file = open();

  std::unique_ptr<File> open() {
    return std::make_unique<PoolFile>(std::make_unique<test::MemFile>("mem", content), executor);
  }
};

TEST_CASE("create: a bad option is refused in QEMU's words", "[formats][qcow2]") {
  const std::map<std::string, std::string> refusals = {
      {"cluster_size=1000", "Cluster size must be a power of two between 512 and 2048k"},
      {"refcount_bits=7", "Refcount width must be a power of two and may not exceed 64 bits"},
      {"compat=9", "Parameter 'version' does not accept value '9'"},
      {"compression_type=lz4", "Parameter 'compression-type' does not accept value 'lz4'"},
      {"preallocation=foo", "Parameter 'preallocation' does not accept value 'foo'"},
      {"backing_file=x,backing_fmt=nope", "Parameter 'backing-fmt' does not accept value 'nope'"},
      {"extended_l2=on,cluster_size=8k",
       "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes"},
      {"compat=v2,extended_l2=on,cluster_size=1000",
       "Extended L2 entries are only supported with compatibility level 1.1 and above (use "
       "version=v3 or greater)"},
      {"compat=v2,lazy_refcounts=on,refcount_bits=7",
       "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or "
       "greater)"},
      {"compat=v2,refcount_bits=8,data_file=d",
       "Different refcount widths than 16 bits require compatibility level 1.1 or above (use "
       "version=v3 or greater)"},
      {"compat=v2,data_file=d,compression_type=zstd",
       "External data files are only supported with compatibility level 1.1 and above (use "
       "version=v3 or greater)"},
      {"compat=v2,compression_type=zstd",
       "Non-zlib compression type is only supported with compatibility level 1.1 and above (use "
       "version=v3 or greater)"},
      {"backing_fmt=raw", "Backing format cannot be used without backing file"},
      {"backing_file=x,preallocation=metadata",
       "Backing file and preallocation can only be used at the same time if extended_l2 is on"},
      {"data_file_raw=on", "data-file-raw requires data-file"},
      {"data_file=d,data_file_raw=on,backing_file=x",
       "Backing file and data-file-raw cannot be used at the same time"},
  };
  for (const auto& [options, message] : refusals) {
    CAPTURE(options);
    CHECK_THAT(validate_create(request_for(kMiB, options)), FailsSaying(message));
  }
}

TEST_CASE("create: a disk whose L1 table would exceed 32 MiB is refused", "[formats][qcow2]") {
  const uint64_t limit = 2048 * kTiB;
  CHECK_THAT(validate_create(request_for(limit, "")), IsOk());
  CHECK_THAT(validate_create(request_for(limit + 1, "")),
             FailsWith(EFBIG, "The image size is too large for file format 'qcow2'"));
}

TEST_CASE("create: a backing file name must fit into the first cluster", "[formats][qcow2]") {
  const std::string name(500, 'b');
  const std::string backing = "backing_fmt=raw,backing_file=" + name;
  CHECK_THAT(validate_create(request_for(kMiB, backing)), IsOk());
  CHECK_THAT(validate_create(request_for(kMiB, backing + ",cluster_size=512")),
             FailsSaying("Could not assign backing file '" + name +
                         "' with format 'raw': No space left on device"));
}

TEST_CASE("create: what was created is clean, whatever the options", "[formats][qcow2]") {
  const std::vector<std::string> option_sets = {
      "",
      "compat=0.10",
      "cluster_size=512,refcount_bits=64",
      "cluster_size=512,refcount_bits=1",
      "cluster_size=2M,refcount_bits=2",
      "extended_l2=on,cluster_size=16k",
      "cluster_size=512,preallocation=metadata",
      "cluster_size=4k,refcount_bits=32,preallocation=falloc",
      "cluster_size=4k,extended_l2=off,preallocation=full,refcount_bits=4",
  };
  for (const std::string& options : option_sets) {
    for (const uint64_t size : {uint64_t{0}, uint64_t{1000}, 5 * kMiB + 512}) {
      CAPTURE(options, size);
      MemoryFile image;
      const auto request = request_for(size, options);
      REQUIRE_THAT(test::run_inline(create(*image.file, request)), IsOk());
      const auto header = test::run_inline(read_header(*image.file, {}));
      REQUIRE_THAT(header, IsOk());
      CHECK(header->virtual_size == round_up(size, 512));
      std::vector<std::string> lines;
      const CheckSink sink = [&lines](const std::string& line) { lines.push_back(line); };
      const auto report = test::run_inline(check(*image.file, *header, sink));
      REQUIRE_THAT(report, IsOk());
      CHECK(lines.empty());
      CHECK(report->corruptions + report->leaks + report->check_errors == 0);
    }
  }
}

TEST_CASE("create: the file ends with the last L1 entry", "[formats][qcow2]") {
  MemoryFile image;
  const auto request = request_for(kGiB, "");
  REQUIRE_THAT(test::run_inline(create(*image.file, request)), IsOk());
  CHECK(image.content->length() == 196624);  // QCOW2.md 11.
}

TEST_CASE("create: a raw data file is mapped one to one and gets its size", "[formats][qcow2]") {
  MemoryFile image;
  MemoryFile data;
  auto request = request_for(kMiB, "data_file=d,data_file_raw=on");
  request.create_data_file = [&data](const std::string& name) -> Result<std::unique_ptr<File>> {
    CHECK(name == "d");
    return data.open();
  };
  REQUIRE_THAT(test::run_inline(create(*image.file, request)), IsOk());
  CHECK(data.content->length() == kMiB);
  const auto bytes = image.content->bytes();
  CHECK(load_be<uint64_t>(&bytes[0x30000]) == 0x8000000000040000);
  CHECK(load_be<uint64_t>(&bytes[0x40000]) == 0x8000000000000000);
  CHECK(load_be<uint64_t>(&bytes[0x40008]) == 0x8000000000010000);
}

TEST_CASE("create: nobody may create a data file when the caller does not", "[formats][qcow2]") {
  MemoryFile image;
  const auto request = request_for(kMiB, "data_file=d");
  CHECK_THAT(test::run_inline(create(*image.file, request)), FailsWith(ENOTSUP));
  CHECK(image.content->length() == 0);
}

TEST_CASE("create: the file is the same byte for byte as qemu-img's", "[formats][qcow2]") {
  if (test::skip_without_qemu_img()) return;
  const std::vector<std::string> option_sets = {
      "compat=0.10",
      "compat=1.1,lazy_refcounts=on",
      "cluster_size=512",
      "cluster_size=4096,refcount_bits=1",
      "cluster_size=2097152,refcount_bits=64",
      "extended_l2=on",
      "compression_type=zstd",
      "backing_file=base.img,backing_fmt=raw",
      "preallocation=metadata",
      "preallocation=falloc,cluster_size=16384",
      "cluster_size=512,refcount_bits=64",
      "cluster_size=512,refcount_bits=64,preallocation=metadata",
      "cluster_size=512,refcount_bits=64,preallocation=falloc",
      "cluster_size=1024,refcount_bits=32,preallocation=full",
  };
  test::TempDir directory;
  for (const std::string& options : option_sets) {
    for (const uint64_t size : {uint64_t{0}, uint64_t{512}, kMiB, 100 * kMiB}) {
      CAPTURE(options, size);
      // A preallocated disk of clusters as small takes too long.
      if (size > kMiB && options.find("preallocation") < options.size() &&
          options.starts_with("cluster_size")) {
        continue;
      }
      const auto reference = test::qemu_img({"create", "-q", "-u", "-f", "qcow2", "-o", options,
                                             "reference.qcow2", std::to_string(size)},
                                            directory.path());
      REQUIRE(reference.exit_status == 0);
      MemoryFile image;
      const auto request = request_for(size, options);
      REQUIRE_THAT(test::run_inline(create(*image.file, request)), IsOk());
      CHECK((image.content->bytes() == test::read_file(directory.file("reference.qcow2"))));
    }
  }
}

}  // namespace
}  // namespace imgconv::qcow2
