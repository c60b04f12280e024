#include "loop/extent_size_hint.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

namespace imgconv {

uint32_t extent_size_hint(int descriptor) {
  fsxattr attributes{};
  if (::ioctl(descriptor, FS_IOC_FSGETXATTR, &attributes) < 0) return 0;
  return attributes.fsx_extsize;
}

}  // namespace imgconv
