// Storage: opens and creates files by name. The one door to the file system, so that engine and
// formats can be tested without one and a foreign image cannot open what the engine did not allow.
// Loop thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "loop/executor.h"
#include "loop/file.h"
#include "loop/file_lock.h"
#include "loop/result.h"

namespace imgconv {

/// CLI.md 1.8.
enum class CacheMode : uint8_t { kWriteback, kNone, kWritethrough, kDirectsync, kUnsafe };

/// How a target comes to its name.
enum class Staging : uint8_t {
  kInPlace,    ///< What has the name is filled as it is.
  kUnnamed,    ///< Gone, unless published, however the process ends.
  kTemporary,  ///< As kUnnamed, but a killed process leaves a file of some temporary name.
};

struct OpenFileOptions {
  bool writable = false;
  CacheMode cache = CacheMode::kWriteback;
  LockMode lock = LockMode::kRead;
};

class Storage {
 public:
  virtual ~Storage() = default;
  /// Opens an existing regular file or block device. Error texts are those of QEMU's file driver:
  /// "Could not open 'NAME': No such file or directory", "'file' driver requires 'NAME' to be a
  /// regular file", "Failed to get shared \"write\" lock" with its hint line.
  virtual Result<std::unique_ptr<File>> open(const std::string& name,
                                             const OpenFileOptions& options) = 0;
  /// Creates NAME (mode 0644 & ~umask) or takes the existing inode: locks it, then truncates it to
  /// nothing. "Could not create 'NAME': ..." Block devices are opened and not truncated.
  virtual Result<std::unique_ptr<File>> create(const std::string& name, CacheMode cache) = 0;
  /// Removes what a failed create() left.
  virtual Result<void> remove(const std::string& name) = 0;
  /// What create(NAME) makes from now on, and open(NAME) then finds, has no name until publish(),
  /// if nothing has that name, or a regular file has it and `replaces`; else NAME is used in place.
  /// A staged file that is not published ends with remove(NAME) or with the storage.
  virtual Result<Staging> stage(const std::string& name, bool replaces) = 0;
  /// Gives the staged file its name in one step. It and the name are durable afterwards if `sync`.
  virtual Result<void> publish(const std::string& name, bool sync) = 0;
  /// Everything written to NAME is durable when it returns, whatever the cache mode.
  virtual Result<void> sync(const std::string& name) = 0;
  /// Everything written to NAME is on the device, and reading it reads the device where the system
  /// can do that (not for files in memory).
  virtual Result<void> drop_from_cache(const std::string& name) = 0;
  virtual bool exists(const std::string& name) = 0;
  /// True when both names are the same file (device and inode).
  virtual bool is_same_file(const std::string& a, const std::string& b) = 0;
  /// Where blocking work of this process goes.
  virtual Executor& executor() = 0;
};

}  // namespace imgconv
