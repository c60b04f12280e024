#include "loop/posix_storage.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <optional>
#include <utility>

#include "loop/file_lock.h"
#include "loop/interrupted_call.h"
#include "loop/pool_file.h"
#include "loop/posix_file.h"
#include "loop/try.h"
#include "loop/uring_file.h"

namespace imgconv {
namespace {

bool is_direct(CacheMode cache) {
  return cache == CacheMode::kNone || cache == CacheMode::kDirectsync;
}

bool is_synchronous(CacheMode cache) {
  return cache == CacheMode::kWritethrough || cache == CacheMode::kDirectsync;
}

int cache_flags(CacheMode cache) {
  return (is_direct(cache) ? O_DIRECT : 0) | (is_synchronous(cache) ? O_DSYNC : 0);
}

/// `verb`: "open" or "create".
Error open_error(int error, const char* verb, const std::string& name, int flags) {
  const std::string context = fmt::format("Could not {} '{}'", verb, name);
  if (error == EINVAL && (flags & O_DIRECT) != 0) {
    return Error(error, context + ": filesystem does not support O_DIRECT");
  }
  return Error::from_errno(error, context);
}

Result<UniqueFd> open_descriptor(const char* verb, const std::string& name, int flags) {
  int descriptor = -1;
  do {
    // Without O_NONBLOCK the open of a pipe would wait for its other end, before anybody could see
    // that it is a pipe.
    descriptor = ::open(name.c_str(), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) return open_error(errno, verb, name, flags);
  UniqueFd owner(descriptor);
  // Not kept: the ring answers EAGAIN on such descriptors where it would otherwise wait.
  const int status_flags = ::fcntl(descriptor, F_GETFL);
  if (status_flags >= 0) ::fcntl(descriptor, F_SETFL, status_flags & ~O_NONBLOCK);
  return owner;
}

enum class FileKind : uint8_t { kRegular, kBlockDevice };

Result<FileKind> kind_of(int descriptor, const std::string& name) {
  struct stat status {};
  if (::fstat(descriptor, &status) < 0) return Error::from_errno(errno);
  if (S_ISREG(status.st_mode)) return FileKind::kRegular;
  if (S_ISBLK(status.st_mode)) return FileKind::kBlockDevice;
  return Error(EINVAL, fmt::format("'file' driver requires '{}' to be a regular file", name));
}

bool is_character_device(int descriptor) {
  struct stat status {};
  return ::fstat(descriptor, &status) == 0 && S_ISCHR(status.st_mode);
}

std::optional<struct stat> stat_of(const std::string& name) {
  struct stat status {};
  if (::stat(name.c_str(), &status) < 0) return std::nullopt;
  return status;
}

}  // namespace

PosixStorage::PosixStorage(Executor& executor, RingFor ring_for)
    : executor_(executor), ring_for_(std::move(ring_for)) {}

Result<std::unique_ptr<File>> PosixStorage::wrap(UniqueFd descriptor, const std::string& name,
                                                 CacheMode cache) {
  PosixFileOptions options;
  options.is_direct = is_direct(cache);
  options.is_synchronous = is_synchronous(cache);
  options.ignores_flush = cache == CacheMode::kUnsafe;
  ASSIGN_OR_RETURN(auto file, PosixFile::adopt(std::move(descriptor), name, options));
  if (Uring* const ring = ring_for_(options.is_direct)) {
    return std::unique_ptr<File>(new UringFile(std::move(file), *ring, executor_));
  }
  return std::unique_ptr<File>(new PoolFile(std::move(file), executor_, options.is_direct));
}

Result<std::unique_ptr<File>> PosixStorage::open(const std::string& name,
                                                 const OpenFileOptions& options) {
  if (options.writable && options.lock == LockMode::kForceShare) {
    return Error(EINVAL, "force-share=on can only be used with read-only images");
  }
  const int flags = (options.writable ? O_RDWR : O_RDONLY) | cache_flags(options.cache);
  ASSIGN_OR_RETURN(UniqueFd descriptor, open_named("open", name, flags));
  RETURN_IF_ERROR(kind_of(descriptor.get(), name));
  RETURN_IF_ERROR(lock_image_file(descriptor.get(), name, options.lock));
  return wrap(std::move(descriptor), name, options.cache);
}

Result<std::unique_ptr<File>> PosixStorage::create(const std::string& name, CacheMode cache) {
  ASSIGN_OR_RETURN(UniqueFd descriptor,
                   open_named("create", name, O_CREAT | O_RDWR | cache_flags(cache)));
  const Result<FileKind> kind = kind_of(descriptor.get(), name);
  // As the original says it, which tries before it looks.
  if (!kind && is_character_device(descriptor.get())) {
    return Error(EINVAL, "Cannot grow device files");
  }
  if (!kind) return Error::from_errno(EINVAL, "Could not resize file");
  // Before the truncation: whoever uses the file must not lose it to our mistake.
  RETURN_IF_ERROR(lock_image_file(descriptor.get(), name, LockMode::kCreate));
  const auto empty = [&] { return ::ftruncate(descriptor.get(), 0); };
  if (*kind == FileKind::kRegular && until_uninterrupted(empty) < 0) {
    return Error::from_errno(errno, "Could not resize file");
  }
  return wrap(std::move(descriptor), name, cache);
}

Result<UniqueFd> PosixStorage::open_named(const char* verb, const std::string& name, int flags) {
  const auto staged = staged_.find(name);
  if (staged == staged_.end()) return open_descriptor(verb, name, flags);
  Result<UniqueFd> descriptor = staged->second->open(flags & ~O_CREAT);
  if (descriptor) return descriptor;
  return open_error(descriptor.error().code(), verb, name, flags);
}

Result<Staging> PosixStorage::stage(const std::string& name, bool replaces) {
  struct stat status {};
  // Not stat(): what a dangling link points to is made in place.
  const bool has_name = ::lstat(name.c_str(), &status) == 0;
  if (!has_name && errno != ENOENT) return Staging::kInPlace;
  // A file of several names must stay one file.
  const bool can_replace = replaces && S_ISREG(status.st_mode) && status.st_nlink == 1;
  if (has_name && !can_replace) return Staging::kInPlace;
  const auto target = has_name ? StagedFile::Target::kReplace : StagedFile::Target::kNew;
  Result<std::unique_ptr<StagedFile>> made = StagedFile::make(name, target);
  // What keeps a new file from being made is for create() to say.
  if (!made && target == StagedFile::Target::kNew) return Staging::kInPlace;
  if (!made) return std::move(made).error();
  std::unique_ptr<StagedFile> staged = std::move(*made);
  const Staging kind = staged->has_temporary_name() ? Staging::kTemporary : Staging::kUnnamed;
  staged_[name] = std::move(staged);
  return kind;
}

Result<void> PosixStorage::publish(const std::string& name, bool sync) {
  const auto staged = staged_.find(name);
  assert(staged != staged_.end());
  const Result<void> published = staged->second->publish(sync);
  staged_.erase(staged);
  return published;
}

Result<void> PosixStorage::sync(const std::string& name) {
  ASSIGN_OR_RETURN(const UniqueFd descriptor, open_named("open", name, O_RDWR));
  if (until_uninterrupted([&] { return ::fdatasync(descriptor.get()); }) < 0) {
    return Error::from_errno(errno, fmt::format("Could not flush '{}'", name));
  }
  return ok();
}

Result<void> PosixStorage::drop_from_cache(const std::string& name) {
  RETURN_IF_ERROR(sync(name));
  ASSIGN_OR_RETURN(const UniqueFd descriptor, open_named("open", name, O_RDONLY));
  const int error = ::posix_fadvise(descriptor.get(), 0, 0, POSIX_FADV_DONTNEED);
  if (error != 0) return Error::from_errno(error, fmt::format("Could not read back '{}'", name));
  return ok();
}

Result<void> PosixStorage::remove(const std::string& name) {
  if (staged_.erase(name) > 0) return ok();
  if (::unlink(name.c_str()) < 0) return Error::from_errno(errno);
  return ok();
}

bool PosixStorage::exists(const std::string& name) { return stat_of(name).has_value(); }

bool PosixStorage::is_same_file(const std::string& a, const std::string& b) {
  const std::optional<struct stat> first = stat_of(a);
  const std::optional<struct stat> second = stat_of(b);
  return first && second && first->st_dev == second->st_dev && first->st_ino == second->st_ino;
}

}  // namespace imgconv
