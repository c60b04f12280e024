// ScratchFolder: a private folder for temporary files, removed with all that is in it. Main thread.
#pragma once

#include <string>

#include "loop/result.h"

namespace imgconv {

class ScratchFolder {
 public:
  /// In $TMPDIR, or /tmp.
  static Result<ScratchFolder> create();
  ScratchFolder(ScratchFolder&& other) noexcept;
  ScratchFolder& operator=(ScratchFolder&&) = delete;
  ~ScratchFolder();

  const std::string& path() const { return path_; }
  std::string file(const char* name) const { return path_ + "/" + name; }

 private:
  explicit ScratchFolder(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

}  // namespace imgconv
