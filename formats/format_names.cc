#include "formats/format_names.h"

#include <fmt/format.h>

#include <cerrno>
#include <string>

namespace imgconv {

namespace {

/// What `qemu-img --help` of 10.0.2 lists: drivers that are linked in, ...
constexpr std::string_view kLinkedNames =
    " blkdebug blklogwrites blkverify bochs cloop compress copy-before-write copy-on-read dmg file "
    "host_cdrom host_device luks nbd null-aio null-co nvme parallels preallocate qcow qcow2 qed "
    "quorum raw replication snapshot-access throttle vdi vhdx vmdk vpc vvfat ";
/// ... and those in modules, unknown to a qemu-img that stands alone.
constexpr std::string_view kModuleNames = " ftp ftps gluster http https iscsi iser nfs rbd ssh ";
/// Of the linked ones, those that QEMU can create and not measure.
constexpr std::string_view kUnmeasuredNames =
    " file host_device nbd parallels qcow qed vdi vhdx vmdk vpc ";

bool contains(std::string_view names, std::string_view name) {
  if (name.empty() || name.find(' ') != name.npos) return false;
  std::string word = " ";
  word.append(name).append(" ");
  return names.find(word) != names.npos;
}

Error unknown(std::string_view name) {
  return Error(EINVAL, fmt::format("Unknown file format '{}'", name));
}

/// A bare file is a raw image, which would not be told apart from "raw".
bool is_other_format(std::string_view name) {
  return name != "file" && contains(kLinkedNames, name);
}

}  // namespace

bool is_known_format(std::string_view name) {
  return contains(kLinkedNames, name) || contains(kModuleNames, name);
}

Error no_creation(std::string_view name) {
  if (!is_other_format(name)) return unknown(name);
  return Error(ENOTSUP, fmt::format("Format driver '{}' does not support image creation", name));
}

Error no_measurement(std::string_view name) {
  if (!is_other_format(name) || !contains(kUnmeasuredNames, name)) return no_creation(name);
  return Error(ENOTSUP, fmt::format("Block driver '{}' does not support size measurement", name));
}

Error no_amendment(std::string_view name) {
  if (!is_other_format(name)) return unknown(name);
  return Error(ENOTSUP, fmt::format("Format driver '{}' does not support option amendment", name));
}

}  // namespace imgconv
