#include "loop/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <cerrno>

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

Permissions permissions_of(LockIntent intent) {
  constexpr unsigned kWriting = bit(kWritePermission) | bit(kResize);
  switch (intent) {
    case LockIntent::kShareAll:
      return {bit(kConsistentRead), 0};
    case LockIntent::kRead:
      return {bit(kConsistentRead), kWriting};
    case LockIntent::kCreate:
      return {kWriting, bit(kResize)};
    case LockIntent::kWrite:
      return {bit(kConsistentRead) | kWriting, kWriting};
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

}  // namespace

Result<void> lock_image_file(int descriptor, const std::string& name, LockIntent intent) {
  if (!has_file_locks(descriptor)) return ok();
  const Permissions permissions = permissions_of(intent);
  for (unsigned p = 0; p < kPermissionNames.size(); ++p) {
    const unsigned mask = 1U << p;
    if ((permissions.held & mask) != 0) RETURN_IF_ERROR(take(descriptor, kHeldBase + p));
    if ((permissions.refused & mask) != 0) RETURN_IF_ERROR(take(descriptor, kRefusedBase + p));
  }
  for (unsigned p = 0; p < kPermissionNames.size(); ++p) {
    const unsigned mask = 1U << p;
    const char* failed = nullptr;
    if ((permissions.held & mask) != 0 && is_taken_by_other(descriptor, kRefusedBase + p)) {
      failed = "Failed to get \"{}\" lock";
    } else if ((permissions.refused & mask) != 0 && is_taken_by_other(descriptor, kHeldBase + p)) {
      failed = "Failed to get shared \"{}\" lock";
    }
    if (failed == nullptr) continue;
    return Error(EAGAIN, fmt::format(fmt::runtime(failed), kPermissionNames[p]))
        .with_hint(fmt::format("Is another process using the image [{}]?", name));
  }
  return ok();
}

}  // namespace imgconv
