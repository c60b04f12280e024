// TempDir: a new empty directory under TMPDIR or /tmp, removed with all it holds at the end.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace imgconv::test {

class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  /// "DIR/name".
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// Whole files; a failure ends the test with an exception that Catch reports.
void write_file(const std::string& path, std::span<const std::byte> bytes);
std::vector<std::byte> read_file(const std::string& path);

}  // namespace imgconv::test
