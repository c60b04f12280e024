#include "formats/foreign_formats.h"

#include <algorithm>
#include <array>

namespace imgconv {

namespace {

using namespace std::string_view_literals;

struct Signature {
  std::string_view format;
  size_t offset;
  std::string_view bytes;
};

// Of the formats' own specifications, as strictly as QEMU looks. A fixed VHD and a DMG are told by
// their last sector alone, which QEMU does not look at either.
constexpr std::array<Signature, 12> kSignatures = {{
    {"vmdk", 0, "KDMV"sv},
    {"vmdk", 0, "COWD"sv},
    {"vdi", 64, "\x7f\x10\xda\xbe"sv},
    {"vhdx", 0, "vhdxfile"sv},
    {"vpc", 0, "conectix"sv},
    {"qed", 0, "QED\0"sv},
    {"qcow", 0, "QFI\xfb\0\0\0\x01"sv},
    {"parallels", 0, "WithoutFreeSpace\x02\0\0\0"sv},
    {"parallels", 0, "WithouFreSpacExt\x02\0\0\0"sv},
    {"luks", 0, "LUKS\xba\xbe\0\x01"sv},
    {"bochs", 0, "Bochs Virtual HD Image\0\0\0\0\0\0\0\0\0\0Redolog\0\0\0\0\0\0\0\0\0Growing\0"sv},
    {"cloop", 0,
     "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop"sv},
}};

/// Comments and empty lines, then the version: a VMDK whose data is in other files.
bool is_vmdk_descriptor(std::string_view text) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == text.npos) return false;
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with('#') || line.find_first_not_of(' ') == line.npos) continue;
    return line == "version=1" || line == "version=2" || line == "version=3";
  }
  return false;
}

}  // namespace

std::string_view probe_foreign_format(std::span<const std::byte> head) {
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  const auto found = std::ranges::find_if(kSignatures, [text](const Signature& signature) {
    return text.substr(std::min(signature.offset, text.size())).starts_with(signature.bytes);
  });
  if (found != kSignatures.end()) return found->format;
  return is_vmdk_descriptor(text) ? "vmdk"sv : ""sv;
}

}  // namespace imgconv
