#include "formats/foreign_formats.h"

#include <array>
#include <catch2/catch.hpp>
#include <string>
#include <string_view>

#include "formats/format_names.h"
#include "formats/registry.h"

namespace imgconv {
namespace {

using namespace std::string_view_literals;

std::string_view probe(std::string_view text, size_t offset = 0) {
  std::string head(512, '\0');
  head.replace(offset, text.size(), text);
  return probe_foreign_format(std::as_bytes(std::span(head)));
}

TEST_CASE("Foreign formats: each is told by its first bytes", "[formats]") {
  CHECK(probe("KDMV") == "vmdk");
  CHECK(probe("COWD") == "vmdk");
  CHECK(probe("\x7f\x10\xda\xbe"sv, 64) == "vdi");
  CHECK(probe("vhdxfile") == "vhdx");
  CHECK(probe("conectix") == "vpc");
  CHECK(probe("QED\0"sv) == "qed");
  CHECK(probe("QFI\xfb\0\0\0\x01"sv) == "qcow");
  CHECK(probe("WithoutFreeSpace\x02\0\0\0"sv) == "parallels");
  CHECK(probe("LUKS\xba\xbe\0\x01"sv) == "luks");
}

TEST_CASE("Foreign formats: a VMDK descriptor is comments and a version", "[formats]") {
  CHECK(probe("# Disk DescriptorFile\nversion=1\nCID=0\n") == "vmdk");
  CHECK(probe("#\r\n\r\n  \nversion=3\r\n") == "vmdk");
  CHECK(probe("# Disk DescriptorFile\nversion=4\n").empty());
  CHECK(probe("# only a comment\n").empty());
  CHECK(probe("version=1").empty());
}

TEST_CASE("Foreign formats: what has a driver, and what is nothing, is not foreign", "[formats]") {
  CHECK(probe("QFI\xfb\0\0\0\x03"sv).empty());
  CHECK(probe("").empty());
  CHECK(probe("vdi at the wrong place").empty());
  CHECK(probe_foreign_format({}).empty());
}

TEST_CASE("Format names: what QEMU has and we have not is refused as such", "[formats]") {
  CHECK(no_creation("vmdk").text() == "Format driver 'vmdk' does not support image creation");
  CHECK(no_creation("https").text() == "Unknown file format 'https'");
  CHECK(no_creation("nope").text() == "Unknown file format 'nope'");
  CHECK(no_creation("file").text() == "Unknown file format 'file'");
  CHECK(no_measurement("vmdk").text() == "Block driver 'vmdk' does not support size measurement");
  CHECK(no_measurement("bochs").text() == "Format driver 'bochs' does not support image creation");
  CHECK(no_measurement("nope").text() == "Unknown file format 'nope'");
  CHECK(no_amendment("vmdk").text() == "Format driver 'vmdk' does not support option amendment");
  CHECK(no_amendment("nope").text() == "Unknown file format 'nope'");
  CHECK(is_known_format("https"));
  CHECK_FALSE(is_known_format("raw qcow2"));
}

}  // namespace
}  // namespace imgconv
