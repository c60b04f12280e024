// StagedFile: a file that is written before it has its name, and gets it when it is complete.
//
// Without a name at all where the file system can (O_TMPFILE): then nothing is left of it however
// the process ends. Elsewhere under a temporary name in the same directory, which the destructor
// removes. Blocking calls; loop thread only. Owns its descriptor, and with --replace the lock on
// the file that it will replace.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "loop/out_of_memory.h"
#include "loop/result.h"
#include "loop/unique_fd.h"

namespace imgconv {

class StagedFile {
 public:
  enum class Target : uint8_t {
    kNew,      ///< Nothing has the name.
    kReplace,  ///< A regular file has it, whose mode and owner the new one takes over.
  };

  /// Makes an empty file that can become `name`. "Could not create 'NAME': ...", and the text of a
  /// lock that somebody holds on the file to be replaced.
  static Result<std::unique_ptr<StagedFile>> make(const std::string& name, Target target);

  StagedFile(const StagedFile&) = delete;
  StagedFile& operator=(const StagedFile&) = delete;
  ~StagedFile();

  /// A new open of the file, as open(2) would give it for a name.
  Result<UniqueFd> open(int flags) const;
  /// True where only a temporary name was to be had: a killed process leaves it behind.
  bool has_temporary_name() const { return !temporary_path_.empty(); }

  /// Makes the content durable if `sync`, gives the file its name in one step, and makes that
  /// durable too. Whoever had the name meanwhile is replaced. Requires: not yet published.
  Result<void> publish(bool sync);

 private:
  StagedFile(std::string name, Target target) : name_(std::move(name)), target_(target) {}

  Result<void> lock_replaced();
  Result<void> create();
  Result<void> take_over_owner();
  Result<void> create_with_temporary_name();
  Result<void> link_to(const std::string& path) const;
  void own_temporary_name(std::string path);

  const std::string name_;
  const Target target_;
  UniqueFd directory_;
  UniqueFd descriptor_;
  /// kReplace: the file that will be replaced, locked against use until then.
  UniqueFd replaced_;
  /// Empty where the file has no name.
  std::string temporary_path_;
  std::optional<EmergencyCleanup> temporary_name_;
};

}  // namespace imgconv
