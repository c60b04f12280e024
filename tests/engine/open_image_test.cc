#include "engine/open_image.h"

#include <catch2/catch.hpp>

#include <cerrno>
#include <memory>
#include <string>

#include "engine/image_name.h"
#include "loop/units.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"
#include "tests/support/qcow2_builder.h"
#include "tests/support/recording_messages.h"

namespace imgconv {
namespace {

using test::FailsSaying;
using test::FailsWith;
using test::IsOk;
using test::Qcow2Builder;

class OpenFixture {
 public:
  void add_raw(const std::string& name) { storage_.add(name, test::pattern(0, 64 * kKiB)); }
  void add_qcow2(const std::string& name, const std::string& backing = "",
                 const std::string& backing_format = "") {
    Qcow2Builder builder;
    builder.size(64 * kKiB);
    if (!backing.empty()) builder.backing(backing, backing_format);
    storage_.add(name, builder.bytes());
  }

  Result<std::unique_ptr<ImageChain>> open(const std::string& name, const std::string& format = "",
                                           bool writable = false) {
    ImageRequest request;
    request.name = name;
    request.format = format;
    request.writable = writable;
    return test::run_inline(open_image(storage_, request, messages_));
  }
  Result<std::unique_ptr<ImageChain>> open_opts(const std::string& text) {
    ImageRequest request;
    request.name = text;
    request.image_opts = true;
    return test::run_inline(open_image(storage_, request, messages_));
  }

  test::MemStorage storage_;
  test::RecordingMessages messages_;
};

TEST_CASE_METHOD(OpenFixture, "open_image: the format is probed when none is given") {
  add_raw("a.raw");
  add_qcow2("b.qcow2");
  const auto raw = open("a.raw");
  REQUIRE_THAT(raw, IsOk());
  CHECK((*raw)->layers().front().format == "raw");
  CHECK((*raw)->layers().front().was_guessed_raw);
  const auto qcow2 = open("b.qcow2");
  REQUIRE_THAT(qcow2, IsOk());
  CHECK((*qcow2)->layers().front().format == "qcow2");
}

TEST_CASE_METHOD(OpenFixture, "open_image: a file shorter than a sector is raw") {
  storage_.add("short", test::pattern(0, 3));
  CHECK_THAT(open("short"), IsOk());
}

TEST_CASE_METHOD(OpenFixture, "open_image: only writing to a guessed raw image is warned of") {
  add_raw("a.raw");
  REQUIRE_THAT(open("a.raw"), IsOk());
  REQUIRE_THAT(open("a.raw", "raw", true), IsOk());
  CHECK(messages_.raw_lines.empty());
  REQUIRE_THAT(open("a.raw", "", true), IsOk());
  REQUIRE(messages_.raw_lines.size() == 3);
  CHECK(messages_.raw_lines[0] ==
        "WARNING: Image format was not specified for 'a.raw' and probing guessed raw.");
}

TEST_CASE_METHOD(OpenFixture, "open_image: errors name the image and then the cause") {
  add_raw("a.raw");
  CHECK_THAT(open("x"),
             FailsSaying("Could not open 'x': Could not open 'x': No such file or directory"));
  CHECK_THAT(open("a.raw", "qcow2"),
             FailsSaying("Could not open 'a.raw': Image is not in qcow2 format"));
  CHECK_THAT(open("a.raw", "nope"), FailsSaying("Could not open 'a.raw': Unknown driver 'nope'"));
  CHECK_THAT(open("foo:bar"), FailsSaying("Could not open 'foo:bar': Unknown protocol 'foo'"));
}

TEST_CASE_METHOD(OpenFixture, "open_image: each layer above a missing backing file is counted") {
  add_qcow2("top", "d/mid", "qcow2");
  add_qcow2("d/mid", "base", "raw");
  CHECK_THAT(open("top"),
             FailsSaying("Could not open 'top': Could not open backing file: Could not open "
                         "backing file: Could not open 'd/base': No such file or directory"));
}

TEST_CASE_METHOD(OpenFixture,
                 "open_image: the backing format comes from the header, else a probe") {
  add_raw("base");
  add_qcow2("named", "base", "qcow2");
  add_qcow2("unnamed", "base");
  CHECK_THAT(open("named"), FailsSaying("Could not open 'named': Could not open backing file: "
                                        "Image is not in qcow2 format"));
  const auto chain = open("unnamed");
  REQUIRE_THAT(chain, IsOk());
  CHECK((*chain)->layers().at(1).format == "raw");
}

TEST_CASE_METHOD(OpenFixture, "open_image: a chain that returns to one of its files is refused") {
  add_qcow2("l1", "l2", "qcow2");
  add_qcow2("l2", "l3", "qcow2");
  add_qcow2("l3", "l2", "qcow2");
  CHECK_THAT(open("l1"), FailsSaying("Backing file 'l2' creates an infinite loop."));
}

TEST_CASE_METHOD(OpenFixture, "open_image: an image may have its own bytes as raw backing image") {
  add_qcow2("self", "self", "raw");
  CHECK_THAT(open("self"), IsOk());
}

TEST_CASE_METHOD(OpenFixture, "open_image: force_share is refused for writing") {
  add_raw("a.raw");
  ImageRequest request;
  request.name = "a.raw";
  request.writable = true;
  request.force_share = true;
  CHECK_THAT(test::run_inline(open_image(storage_, request, messages_)),
             FailsSaying("Could not open 'a.raw': force-share=on can only be used with read-only "
                         "images"));
}

TEST_CASE_METHOD(OpenFixture, "open_image: the backing file is left alone if nobody wants it") {
  add_qcow2("top", "missing", "qcow2");
  ImageRequest request;
  request.name = "top";
  request.with_backing = false;
  const auto chain = test::run_inline(open_image(storage_, request, messages_));
  REQUIRE_THAT(chain, IsOk());
  CHECK((*chain)->layers().size() == 1);
  request.with_backing = true;
  request.metadata_only = true;
  CHECK_THAT(test::run_inline(open_image(storage_, request, messages_)), test::FailsWith(ENOENT));
}

TEST_CASE_METHOD(OpenFixture, "open_image: json names reach files, backing overrides and windows") {
  add_raw("base");
  add_qcow2("top", "missing", "qcow2");
  CHECK_THAT(open(R"(json:{"driver":"qcow2","file":{"filename":"top"},"backing":null})"), IsOk());
  const auto chain = open(
      "json:{'driver':'qcow2','file.filename':'top','backing':{'file.filename':'base',"
      "'driver':'raw','offset':512,'size':'1k'}}");
  REQUIRE_THAT(chain, IsOk());
  REQUIRE((*chain)->layers().size() == 2);
  CHECK((*chain)->layers()[1].image->info().virtual_size == 1024);
}

TEST_CASE_METHOD(OpenFixture, "open_image: an image inside a larger file is reached by raw nodes") {
  Qcow2Builder builder;
  builder.size(64 * kKiB).backing("base", "raw");
  std::vector<std::byte> bytes = test::pattern(0, 8 * kKiB);
  const std::vector<std::byte> image = builder.bytes();
  bytes.insert(bytes.end(), image.begin(), image.end());
  storage_.add("in/tar", bytes);
  add_raw("in/base");
  const auto chain = open(R"(json:{"driver":"qcow2","file":{"driver":"raw","offset":4096,"file":)"
                          R"({"driver":"raw","offset":"4k","file":{"filename":"in/tar"}}}})");
  REQUIRE_THAT(chain, IsOk());
  REQUIRE((*chain)->layers().size() == 2);
  CHECK((*chain)->layers()[0].image->info().virtual_size == 64 * kKiB);
  CHECK((*chain)->layers()[1].name == "in/base");
  CHECK((*chain)->layers()[0].name ==
        R"(json:{"driver": "qcow2", "file": {"offset": 4096, "driver": "raw", "file": )"
        R"({"offset": "4k", "driver": "raw", "file": {"driver": "file", "filename": "in/tar"}}}})");
  CHECK_THAT(open(R"(json:{"driver":"qcow2","file":{"driver":"raw","offset":1,)"
                  R"("file":{"driver":"raw","offset":"4k","size":512,"file.filename":"in/tar"}}})"),
             FailsWith(EINVAL, "Image is not in qcow2 format"));
  CHECK_THAT(open_opts("driver=qcow2,file.driver=raw,file.x=1,file.file.filename=in/tar"),
             FailsWith(EINVAL, "Block format 'raw' does not support the option 'x'"));
  CHECK_THAT(open_opts("driver=qcow2,file.driver=raw,file.offset=1G,file.file.filename=in/tar"),
             FailsWith(EINVAL, "Offset (1073741824) cannot be greater than size"));
}

TEST_CASE_METHOD(OpenFixture, "open_image: raw nodes do not make a tower") {
  add_raw("a.raw");
  std::string node = R"({"filename":"a.raw"})";
  for (int i = 0; i < 8; ++i) node = R"({"driver":"raw","file":)" + node + "}";
  CHECK_THAT(open(R"(json:{"driver":"raw","file":)" + node + "}"), IsOk());
  node = R"({"driver":"raw","file":)" + node + "}";
  CHECK_THAT(open(R"(json:{"driver":"raw","file":)" + node + "}"),
             FailsWith(EINVAL, "Too many drivers 'raw' on top of each other"));
}

TEST_CASE_METHOD(OpenFixture,
                 "open_image: a part of a file is named in the words it was given in") {
  add_raw("\xC3\xBC\"");
  const auto name_of = [](const Result<std::unique_ptr<ImageChain>>& chain) {
    REQUIRE_THAT(chain, IsOk());
    return (*chain)->layers().front().name;
  };
  const std::string file = R"("file": {"driver": "file", "filename": "\u00FC\""}})";
  CHECK(name_of(open("json:{\"offset\":512,\"size\":\"1k\",\"file.filename\":\"\xC3\xBC\\\"\"}")) ==
        R"(json:{"offset": 512, "driver": "raw", "size": "1k", )" + file);
  CHECK(name_of(open_opts("offset=0,file.filename=\xC3\xBC\"")) ==
        R"(json:{"offset": "0", "driver": "raw", )" + file);
}

TEST_CASE_METHOD(OpenFixture,
                 "open_image: what follows file: keeps its colons by a path in front") {
  add_raw("./a:b");
  const auto chain = open("file:a:b");
  REQUIRE_THAT(chain, IsOk());
  CHECK((*chain)->layers().front().name == "./a:b");
  CHECK_THAT(open("file:x:y"), FailsSaying("Could not open 'file:x:y': Could not open './x:y': No "
                                           "such file or directory"));
  CHECK(*path_of_name("file:d/x:y") == "d/x:y");
}

TEST_CASE_METHOD(OpenFixture, "open_image: a relative backing name fails only below a json name") {
  CHECK_THAT(resolve_backing_name("json:{}", "a"),
             FailsSaying("Cannot use relative backing file names for 'json:{}'"));
  CHECK(*resolve_backing_name("json:{}", "/a") == "/a");
}

TEST_CASE("CacheOverride: cache options of a node go before the cache mode") {
  const auto applied = [](std::optional<bool> direct, std::optional<bool> no_flush) {
    return CacheOverride{direct, no_flush};
  };
  CHECK(applied(true, {}).applied_to(CacheMode::kWriteback) == CacheMode::kNone);
  CHECK(applied(true, {}).applied_to(CacheMode::kWritethrough) == CacheMode::kDirectsync);
  CHECK(applied(true, {}).applied_to(CacheMode::kUnsafe) == CacheMode::kNone);
  CHECK(applied(false, {}).applied_to(CacheMode::kDirectsync) == CacheMode::kWritethrough);
  CHECK(applied(false, {}).applied_to(CacheMode::kUnsafe) == CacheMode::kUnsafe);
  CHECK(applied({}, true).applied_to(CacheMode::kWriteback) == CacheMode::kUnsafe);
  CHECK(applied({}, false).applied_to(CacheMode::kUnsafe) == CacheMode::kWriteback);
  CHECK(applied({}, {}).applied_to(CacheMode::kUnsafe) == CacheMode::kUnsafe);
}

TEST_CASE_METHOD(OpenFixture, "open_image: a cache option holds for the file and for the chain") {
  add_raw("base.raw");
  add_qcow2("top.qcow2", "base.raw", "raw");
  // aio=native tells: it needs O_DIRECT.
  const std::string names =
      ",file.filename=top.qcow2,backing.driver=raw,backing.file.filename=base.raw";
  CHECK_THAT(open_opts("driver=qcow2,cache.direct=on,file.aio=native" + names), IsOk());
  CHECK_THAT(open_opts("driver=qcow2,file.cache.direct=on,file.aio=native" + names), IsOk());
  CHECK_THAT(open_opts("driver=qcow2,cache.direct=on,backing.file.aio=native" + names), IsOk());
  const auto needs_direct = [&](const std::string& options) {
    const auto opened = open_opts(options + names);
    return !opened &&
           opened.error().text().find("it requires cache.direct=on") != std::string::npos;
  };
  CHECK(needs_direct("driver=qcow2,file.aio=native"));
  CHECK(needs_direct("driver=qcow2,file.cache.direct=on,backing.file.aio=native"));
  CHECK(needs_direct("driver=qcow2,cache.direct=on,file.cache.direct=off,file.aio=native"));
}

TEST_CASE("resolve_backing_name: relative names begin in the overlay's directory") {
  CHECK(*resolve_backing_name("d/e/top", "../base") == "d/e/../base");
  CHECK(*resolve_backing_name("top", "base") == "base");
  CHECK(*resolve_backing_name("file:top", "base") == "file:base");
  CHECK(*resolve_backing_name("d/top", "/base") == "/base");
  CHECK(*resolve_backing_name("d/top", "file:base") == "file:base");
  CHECK(*resolve_backing_name("d/top", "x/y:z") == "d/x/y:z");
}

TEST_CASE_METHOD(OpenFixture, "open_image: option strings name the driver and the file") {
  add_qcow2("a,b");
  CHECK_THAT(open_opts("driver=qcow2,file.filename=a,,b"), IsOk());
  CHECK_THAT(open_opts("file.filename=a,,b"), IsOk());
  CHECK_THAT(open_opts("a,,b"), FailsSaying("Could not open 'a,,b': Cannot find device='a,b' nor "
                                            "node-name='a,b'"));
  CHECK_THAT(open_opts("driver=qcow2"),
             FailsSaying("Could not open 'driver=qcow2': A block device must be specified for "
                         "\"file\""));
  CHECK_THAT(open_opts("filename=x"),
             FailsSaying("Could not open 'filename=x': Must specify either driver or file"));
}

TEST_CASE_METHOD(OpenFixture, "open_image: options that nobody knows are refused by name") {
  add_qcow2("q");
  const std::string format = "driver=qcow2,file.filename=q,bogus=1";
  CHECK_THAT(open_opts(format), FailsSaying("Could not open '" + format +
                                            "': Block format 'qcow2' does not support the option "
                                            "'bogus'"));
  const std::string file = "file.filename=q,file.bogus=1";
  CHECK_THAT(open_opts(file), FailsSaying("Could not open '" + file +
                                          "': Block protocol 'file' doesn't support the option "
                                          "'bogus'"));
}

TEST_CASE("parse_json_options: nested objects and lists become dotted keys") {
  const auto options =
      parse_json_options(R"({"a":{"b":["x",{"c":true}]},"n":null,"i":12,"f":1e3})");
  REQUIRE_THAT(options, IsOk());
  const NameOptions expected = {{"a.b.0", {"x"}},
                                {"a.b.1.c", {"on"}},
                                {"f", {"1000", true}},
                                {"i", {"12", true}},
                                {"n", {std::nullopt}}};
  CHECK(*options == expected);
}

TEST_CASE("parse_json_options: single quoted strings may hold double quotes") {
  const auto options = parse_json_options(R"({'a': 'x"y\'z'})");
  REQUIRE_THAT(options, IsOk());
  CHECK(options->at("a").text == "x\"y'z");
}

TEST_CASE("parse_json_options: syntax errors have the original's words") {
  const std::string prefix = "Could not parse the JSON options: ";
  CHECK_THAT(parse_json_options("{"), FailsSaying(prefix + "JSON parse error, premature EOI"));
  CHECK_THAT(parse_json_options(R"({"a":"b)"),
             FailsSaying(prefix + "JSON parse error, premature EOI"));
  CHECK_THAT(parse_json_options(""), FailsSaying(prefix + "Expecting a JSON value"));
  CHECK_THAT(parse_json_options(R"({"a" "b"})"),
             FailsSaying(prefix + "JSON parse error, missing : in object pair"));
  CHECK_THAT(parse_json_options(R"({"a":1} x)"),
             FailsSaying(prefix + "Expecting at most one JSON value"));
  CHECK_THAT(parse_json_options("[]"), FailsSaying("Invalid JSON object given"));
}

}  // namespace
}  // namespace imgconv
