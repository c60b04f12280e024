#include "loop/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "loop/lock_holder.h"
#include "loop/try.h"

namespace imgconv {
namespace {

// A held permission is a lock on byte 100 + p, a permission refused to others on byte 200 + p.
constexpr off_t kHeldBase = 100;
constexpr off_t kRefusedBase = 200;

enum Permission : uint8_t { kConsistentRead, kWritePermission, kWriteUnchanged, kResize };
constexpr std::array<const char*, 4> kPermissionNames = {"consistent read", "write",
                                                         "write unchanged", "resize"};

constexpr unsigned bit(Permission permission) { return 1U << permission; }

struct Permissions {
  unsigned held = 0;
  unsigned refused = 0;
};

Permissions permissions_of(LockMode mode) {
  constexpr unsigned kReading = bit(kConsistentRead);
  constexpr unsigned kWriting = bit(kWritePermission) | bit(kResize);
  switch (mode) {
    case LockMode::kNone:
      return {};
    case LockMode::kForceShare:
      return {kReading, 0};
    case LockMode::kDescribe:
      return {0, kWriting};
    case LockMode::kRead:
      return {kReading, kWriting};
    case LockMode::kReadData:
      return {kReading, bit(kResize)};
    case LockMode::kCreate:
      return {kWriting, bit(kResize)};
    case LockMode::kWrite:
      return {kReading | kWriting, kWriting};
    case LockMode::kWriteData:
      return {kReading | kWriting, bit(kResize)};
    case LockMode::kWriteShared:
      return {kReading | bit(kWritePermission), 0};
    case LockMode::kResizeShared:
      return {kReading | kWriting, 0};
  }
  return {};
}

struct flock byte_lock(short type, off_t byte) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

bool has_file_locks(int descriptor) {
  struct flock lock = byte_lock(F_WRLCK, 0);
  return ::fcntl(descriptor, F_OFD_GETLK, &lock) == 0;
}

Result<void> take(int descriptor, off_t byte) {
  struct flock lock = byte_lock(F_RDLCK, byte);
  if (::fcntl(descriptor, F_OFD_SETLK, &lock) == 0) return ok();
  return Error::from_errno(errno, fmt::format("Failed to lock byte {}", byte));
}

bool is_taken_by_other(int descriptor, off_t byte) {
  struct flock lock = byte_lock(F_WRLCK, byte);
  return ::fcntl(descriptor, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

/// `taken`: the byte that stands for what we were refused.
Error conflict(int descriptor, const std::string& name, const std::string& text, off_t taken) {
  std::string hint = fmt::format("Is another process using the image [{}]?", name);
  const std::string holder = describe_lock_holder(descriptor, taken);
  if (!holder.empty()) hint += '\n' + holder;
  return Error(EAGAIN, text).with_hint(std::move(hint));
}

Error refused(int descriptor, const std::string& name, unsigned permission) {
  return conflict(descriptor, name,
                  fmt::format("Failed to get \"{}\" lock", kPermissionNames[permission]),
                  kRefusedBase + permission);
}

Error held_already(int descriptor, const std::string& name, unsigned permission) {
  return conflict(descriptor, name,
                  fmt::format("Failed to get shared \"{}\" lock", kPermissionNames[permission]),
                  kHeldBase + permission);
}

/// Who uses what within this process, where the file system has no locks: an image must not be
/// copied onto itself. Any thread.
class ProcessLocks {
 public:
  Result<void> add(int descriptor, const std::string& name, Permissions permissions) {
    const std::optional<struct stat> file = stat_of(descriptor);
    if (!file) return ok();
    const std::lock_guard guard(mutex_);
    // Nobody tells when a descriptor is closed: who is gone shows another file, or none, or was
    // this descriptor.
    std::erase_if(users_, [descriptor](const User& user) {
      return user.descriptor == descriptor || !user.is_alive();
    });
    for (const User& user : users_) {
      if (!user.uses(*file)) continue;
      for (unsigned p = 0; p < kPermissionNames.size(); ++p) {
        const unsigned mask = 1U << p;
        if ((permissions.held & user.permissions.refused & mask) != 0) {
          return refused(descriptor, name, p);
        }
        if ((permissions.refused & user.permissions.held & mask) != 0) {
          return held_already(descriptor, name, p);
        }
      }
    }
    users_.push_back({descriptor, file->st_dev, file->st_ino, permissions});
    return ok();
  }

 private:
  struct User {
    int descriptor = -1;
    dev_t device = 0;
    ino_t inode = 0;
    Permissions permissions;

    bool uses(const struct stat& file) const {
      return file.st_dev == device && file.st_ino == inode;
    }
    bool is_alive() const {
      const std::optional<struct stat> file = stat_of(descriptor);
      return file && uses(*file);
    }
  };

  static std::optional<struct stat> stat_of(int descriptor) {
    struct stat status {};
    if (::fstat(descriptor, &status) < 0) return std::nullopt;
    return status;
  }

  std::mutex mutex_;
  std::vector<User> users_;  // Guarded by mutex_.
};

}  // namespace

Result<void> lock_image_file(int descriptor, const std::string& name, LockMode mode) {
  const Permissions permissions = permissions_of(mode);
  const bool takes_part = (permissions.held | permissions.refused) != 0;
  if (!takes_part) return ok();
  if (!has_file_locks(descriptor)) {
    static ProcessLocks process_locks;
    return process_locks.add(descriptor, name, permissions);
  }
  for (unsigned p = 0; p < kPermissionNames.size(); ++p) {
    const unsigned mask = 1U << p;
    if ((permissions.held & mask) != 0) RETURN_IF_ERROR(take(descriptor, kHeldBase + p));
    if ((permissions.refused & mask) != 0) RETURN_IF_ERROR(take(descriptor, kRefusedBase + p));
  }
  // What others refuse is told before what they hold, whichever permission it is.
  for (unsigned p = 0; p < kPermissionNames.size(); ++p) {
    if ((permissions.held & (1U << p)) == 0) continue;
    if (is_taken_by_other(descriptor, kRefusedBase + p)) return refused(descriptor, name, p);
  }
  for (unsigned p = 0; p < kPermissionNames.size(); ++p) {
    if ((permissions.refused & (1U << p)) == 0) continue;
    if (is_taken_by_other(descriptor, kHeldBase + p)) return held_already(descriptor, name, p);
  }
  return ok();
}

}  // namespace imgconv
