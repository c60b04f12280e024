// MemStorage: a Storage whose files are MemFiles, found by name. No directories, no locks.
//
// Files keep their bytes between opens. A wrapper, if set, decorates each file that is opened
// afterwards: FaultFile, TraceFile. Runs jobs inline unless given an executor. Loop thread only,
// but for the files themselves.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "loop/storage.h"
#include "tests/support/inline_executor.h"
#include "tests/support/mem_file.h"

namespace imgconv::test {

class MemStorage final : public Storage {
 public:
  using Wrapper = std::function<std::unique_ptr<BlockingFile>(std::unique_ptr<BlockingFile>)>;

  MemStorage() : executor_(inline_executor_) {}
  explicit MemStorage(Executor& executor) : executor_(executor) {}

  /// The bytes under this name; an empty file is made when there is none.
  MemContent& content(const std::string& name);
  /// Makes or replaces a file.
  void add(const std::string& name, std::span<const std::byte> bytes);
  /// Makes or replaces a file by an empty one of unusual traits.
  MemContent& add(const std::string& name, MemFileTraits traits);
  std::vector<std::byte> bytes(const std::string& name) { return content(name).bytes(); }
  std::vector<std::string> names() const;
  /// Decorates every file opened or created from now on.
  void set_wrapper(Wrapper wrapper) { wrapper_ = std::move(wrapper); }
  /// Files opened or created from now on say what files of the ring say: better one request at a
  /// time through File than blocking calls.
  void set_prefers_async(bool prefers_async) { prefers_async_ = prefers_async; }
  /// A File over this name, whether it existed or not; no error possible.
  std::unique_ptr<File> file(const std::string& name, bool writable = true);

  Result<std::unique_ptr<File>> open(const std::string& name,
                                     const OpenFileOptions& options) override;
  Result<std::unique_ptr<File>> create(const std::string& name, CacheMode cache) override;
  Result<void> remove(const std::string& name) override;
  Result<Staging> stage(const std::string& name, bool replaces) override;
  Result<void> publish(const std::string& name, bool sync) override;
  Result<void> sync(const std::string& name) override;
  Result<void> drop_from_cache(const std::string& name) override { return sync(name); }
  bool exists(const std::string& name) override;
  bool is_same_file(const std::string& a, const std::string& b) override;
  Executor& executor() override { return executor_; }

 private:
  InlineExecutor inline_executor_;
  Executor& executor_;
  Wrapper wrapper_;
  bool prefers_async_ = false;
  std::map<std::string, std::shared_ptr<MemContent>> contents_;
  /// Hides contents_ of the same name from open() and create() until it is published.
  std::map<std::string, std::shared_ptr<MemContent>> staged_;
};

}  // namespace imgconv::test
