#include "tests/support/mem_storage.h"

#include <cassert>
#include <cerrno>
#include <utility>

#include "loop/pool_file.h"

namespace imgconv::test {

MemContent& MemStorage::content(const std::string& name) {
  std::shared_ptr<MemContent>& entry = contents_[name];
  if (!entry) entry = std::make_shared<MemContent>();
  return *entry;
}

void MemStorage::add(const std::string& name, std::span<const std::byte> bytes) {
  contents_[name] = std::make_shared<MemContent>();
  contents_[name]->assign(bytes);
}

MemContent& MemStorage::add(const std::string& name, MemFileTraits traits) {
  contents_[name] = std::make_shared<MemContent>(traits);
  return *contents_[name];
}

std::vector<std::string> MemStorage::names() const {
  std::vector<std::string> names;
  for (const auto& [name, content] : contents_) names.push_back(name);
  return names;
}

std::unique_ptr<File> MemStorage::file(const std::string& name, bool writable) {
  const auto staged = staged_.find(name);
  if (staged == staged_.end()) content(name);
  std::unique_ptr<BlockingFile> blocking = std::make_unique<MemFile>(
      name, staged != staged_.end() ? staged->second : contents_[name], writable);
  if (wrapper_) blocking = wrapper_(std::move(blocking));
  return std::make_unique<PoolFile>(std::move(blocking), executor_, prefers_async_);
}

Result<std::unique_ptr<File>> MemStorage::open(const std::string& name,
                                               const OpenFileOptions& options) {
  if (!exists(name) && !staged_.contains(name)) {
    return Error::from_errno(ENOENT, "Could not open '" + name + "'");
  }
  return file(name, options.writable);
}

Result<std::unique_ptr<File>> MemStorage::create(const std::string& name, CacheMode) {
  const auto staged = staged_.find(name);
  MemContent& target = staged != staged_.end() ? *staged->second : content(name);
  if (!target.traits().is_block_device) {
    const Result<void> truncated = target.truncate(0);
    if (!truncated) return truncated.error();
  }
  return file(name);
}

Result<Staging> MemStorage::stage(const std::string& name, bool replaces) {
  if (exists(name) && !replaces) return Staging::kInPlace;
  staged_[name] = std::make_shared<MemContent>();
  return Staging::kUnnamed;
}

Result<void> MemStorage::publish(const std::string& name, bool /*sync*/) {
  const auto staged = staged_.extract(name);
  assert(!staged.empty());
  contents_[name] = staged.mapped();
  return ok();
}

Result<void> MemStorage::sync(const std::string& name) { return file(name)->blocking().flush(); }

Result<void> MemStorage::remove(const std::string& name) {
  if (staged_.erase(name) > 0) return ok();
  if (contents_.erase(name) == 0)
    return Error::from_errno(ENOENT, "Could not remove '" + name + "'");
  return ok();
}

bool MemStorage::exists(const std::string& name) { return contents_.contains(name); }

bool MemStorage::is_same_file(const std::string& a, const std::string& b) {
  return exists(a) && exists(b) && contents_[a] == contents_[b];
}

}  // namespace imgconv::test
