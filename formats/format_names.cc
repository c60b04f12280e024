#include "formats/format_names.h"

#include <string>

namespace imgconv {

bool is_known_format(std::string_view name) {
  // What `qemu-img --help` of 10.0.2 lists.
  constexpr std::string_view kNames =
      " blkdebug blklogwrites blkverify bochs cloop compress copy-before-write copy-on-read dmg "
      "file ftp ftps gluster host_cdrom host_device http https iscsi iser luks nbd nfs null-aio "
      "null-co nvme parallels preallocate qcow qcow2 qed quorum raw rbd replication "
      "snapshot-access ssh throttle vdi vhdx vmdk vpc vvfat ";
  if (name.empty() || name.find(' ') != name.npos) return false;
  std::string word = " ";
  word.append(name).append(" ");
  return kNames.find(word) != kNames.npos;
}

}  // namespace imgconv
