#include "cmd/scratch_folder.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

namespace imgconv {

Result<ScratchFolder> ScratchFolder::create() {
  const char* const parent = std::getenv("TMPDIR");
  std::string path = parent != nullptr && *parent != '\0' ? parent : "/tmp";
  path += "/imgconv-reproduce-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) {
    return Error::from_errno(errno, "cannot create a temporary folder " + path);
  }
  return ScratchFolder(std::move(path));
}

ScratchFolder::ScratchFolder(ScratchFolder&& other) noexcept
    : path_(std::exchange(other.path_, {})) {}

ScratchFolder::~ScratchFolder() {
  if (path_.empty()) return;
  // What cannot be removed stays; there is nobody to tell.
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace imgconv
