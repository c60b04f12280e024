// PosixStorage: the files of this machine. Opens by name with QEMU's checks, locks, cache modes and
// error texts, and decides whether a file is served by the pool or by the ring.
//
// Borrows executor and ring, which must outlive it and every file it opened. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "loop/executor.h"
#include "loop/staged_file.h"
#include "loop/storage.h"
#include "loop/unique_fd.h"
#include "loop/uring.h"

namespace imgconv {

class PosixStorage final : public Storage {
 public:
  /// The ring for a file with or without O_DIRECT, or null: then the pool serves it.
  using RingFor = std::function<Uring*(bool is_direct)>;

  PosixStorage(Executor& executor, RingFor ring_for);

  Result<std::unique_ptr<File>> open(const std::string& name,
                                     const OpenFileOptions& options) override;
  Result<std::unique_ptr<File>> create(const std::string& name, CacheMode cache) override;
  Result<void> remove(const std::string& name) override;
  Result<Staging> stage(const std::string& name, bool replaces) override;
  Result<void> publish(const std::string& name, bool sync) override;
  Result<void> sync(const std::string& name) override;
  Result<void> drop_from_cache(const std::string& name) override;
  bool exists(const std::string& name) override;
  bool is_same_file(const std::string& a, const std::string& b) override;
  Executor& executor() override { return executor_; }

 private:
  /// As open_descriptor() in the source file, but finds staged files.
  Result<UniqueFd> open_named(const char* verb, const std::string& name, int flags);
  Result<std::unique_ptr<File>> wrap(UniqueFd descriptor, const std::string& name, CacheMode cache);

  Executor& executor_;
  const RingFor ring_for_;
  std::map<std::string, std::unique_ptr<StagedFile>, std::less<>> staged_;
};

}  // namespace imgconv
