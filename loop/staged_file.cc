#include "loop/staged_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <utility>

#include "loop/file_lock.h"
#include "loop/interrupted_call.h"
#include "loop/try.h"

namespace imgconv {
namespace {

constexpr int kTemporaryNameAttempts = 100;
/// As for any new image, less the umask.
constexpr mode_t kNewMode = 0644;

std::string directory_of(const std::string& name) {
  const size_t slash = name.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : name.substr(0, slash);
}

/// How this process names a file that it has open.
std::string descriptor_path(const UniqueFd& descriptor) {
  return fmt::format("/proc/self/fd/{}", descriptor.get());
}

Error could_not_create(int error, const std::string& name) {
  return Error::from_errno(error, fmt::format("Could not create '{}'", name));
}

/// In the directory of `name`. Short, since `name` may be as long as a name can be.
Result<std::string> temporary_path(const std::string& directory) {
  uint64_t random = 0;
  if (::getrandom(&random, sizeof(random), 0) != ssize_t{sizeof(random)}) {
    return Error::from_errno(errno, "getrandom");
  }
  return fmt::format("{}/.imgconv-{:016x}", directory, random);
}

}  // namespace

Result<std::unique_ptr<StagedFile>> StagedFile::make(const std::string& name, Target target) {
  std::unique_ptr<StagedFile> staged(new StagedFile(name, target));
  if (target == Target::kReplace) RETURN_IF_ERROR(staged->lock_replaced());
  const std::string directory = directory_of(name);
  staged->directory_ = UniqueFd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // A directory may be one to write to and not to read.
  if (staged->directory_.get() < 0 && errno != EACCES) return could_not_create(errno, name);
  RETURN_IF_ERROR(staged->create());
  if (target == Target::kReplace) RETURN_IF_ERROR(staged->take_over_owner());
  return staged;
}

StagedFile::~StagedFile() {
  if (has_temporary_name()) ::unlink(temporary_path_.c_str());
}

Result<void> StagedFile::lock_replaced() {
  replaced_ = UniqueFd(::open(name_.c_str(), O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (replaced_.get() < 0) return could_not_create(errno, name_);
  return lock_image_file(replaced_.get(), name_, LockMode::kCreate);
}

Result<void> StagedFile::create() {
  const std::string directory = directory_of(name_);
  UniqueFd descriptor(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, kNewMode));
  // It can be opened again, and be given a name, by way of /proc alone.
  const bool is_usable =
      descriptor.get() >= 0 && ::access(descriptor_path(descriptor).c_str(), R_OK) == 0;
  if (is_usable) {
    descriptor_ = std::move(descriptor);
    return ok();
  }
  const int error = descriptor.get() < 0 ? errno : EOPNOTSUPP;
  // The answers of file systems and kernels that do not know such files.
  if (error != EOPNOTSUPP && error != EISDIR && error != EINVAL) {
    return could_not_create(error, name_);
  }
  return create_with_temporary_name();
}

Result<void> StagedFile::create_with_temporary_name() {
  for (int attempt = 0; attempt < kTemporaryNameAttempts; ++attempt) {
    ASSIGN_OR_RETURN(std::string path, temporary_path(directory_of(name_)));
    descriptor_ = UniqueFd(::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, kNewMode));
    if (descriptor_.get() >= 0) {
      own_temporary_name(std::move(path));
      return ok();
    }
    if (errno != EEXIST) break;
  }
  return could_not_create(errno, name_);
}

void StagedFile::own_temporary_name(std::string path) {
  temporary_path_ = std::move(path);
  temporary_name_.emplace(temporary_path_, EmergencyCleanup::Action::kRemoveName);
}

Result<void> StagedFile::take_over_owner() {
  struct stat old {};
  struct stat made {};
  if (::fstat(replaced_.get(), &old) < 0 || ::fstat(descriptor_.get(), &made) < 0) {
    return could_not_create(errno, name_);
  }
  const bool has_owner = old.st_uid == made.st_uid && old.st_gid == made.st_gid;
  // The owner first: a change of owner takes the set-id bits away.
  if (!has_owner && ::fchown(descriptor_.get(), old.st_uid, old.st_gid) < 0) {
    return Error::from_errno(errno, fmt::format("Could not keep the owner of '{}'", name_));
  }
  if (::fchmod(descriptor_.get(), old.st_mode & 07777) < 0) {
    return Error::from_errno(errno, fmt::format("Could not keep the mode of '{}'", name_));
  }
  return ok();
}

Result<UniqueFd> StagedFile::open(int flags) const {
  const std::string path = has_temporary_name() ? temporary_path_ : descriptor_path(descriptor_);
  UniqueFd descriptor(::open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY));
  if (descriptor.get() < 0) return Error::from_errno(errno);
  return descriptor;
}

Result<void> StagedFile::link_to(const std::string& path) const {
  const std::string source = descriptor_path(descriptor_);
  const int linked = until_uninterrupted([&] {
    return ::linkat(AT_FDCWD, source.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW);
  });
  if (linked < 0) return Error::from_errno(errno);
  return ok();
}

Result<void> StagedFile::publish(bool sync) {
  assert(descriptor_.get() >= 0);
  if (sync && until_uninterrupted([&] { return ::fsync(descriptor_.get()); }) < 0) {
    return Error::from_errno(errno, fmt::format("Could not flush '{}'", name_));
  }
  if (!has_temporary_name()) {
    const Result<void> linked = link_to(name_);
    if (!linked && linked.error().code() != EEXIST) {
      return could_not_create(linked.error().code(), name_);
    }
    if (!linked) {
      // A link replaces nothing: by way of a name of its own, which rename() moves over the other.
      ASSIGN_OR_RETURN(std::string path, temporary_path(directory_of(name_)));
      RETURN_IF_ERROR(link_to(path));
      own_temporary_name(std::move(path));
    }
  }
  if (has_temporary_name()) {
    const int renamed =
        until_uninterrupted([&] { return ::rename(temporary_path_.c_str(), name_.c_str()); });
    if (renamed < 0) return could_not_create(errno, name_);
    temporary_name_.reset();
    temporary_path_.clear();
  }
  if (!sync) return ok();
  // Without a descriptor of the directory: all of its file system.
  const int flushed = until_uninterrupted([&] {
    return directory_.is_open() ? ::fsync(directory_.get()) : ::syncfs(descriptor_.get());
  });
  if (flushed < 0 && errno != EINVAL) {
    return Error::from_errno(errno, fmt::format("Could not flush the directory of '{}'", name_));
  }
  return ok();
}

}  // namespace imgconv
