// The calls of a BlockingFile by name, for the decorators that count, fail or record them.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace imgconv::test {

enum class FileOperation : uint8_t {
  kRead,
  kWrite,
  kWriteZeroes,
  kDiscard,
  kFlush,
  kTruncate,
  kAllocate,
  kBlockStatus,
  kStat,
};

inline constexpr unsigned kOperationKinds = 9;

const char* operation_name(FileOperation operation);

/// A set of operations. kAnyOperation is all but stat(), which touches no medium.
class OperationSet {
 public:
  constexpr OperationSet(FileOperation one) : bits_(bit(one)) {}
  constexpr OperationSet(std::initializer_list<FileOperation> some) {
    for (FileOperation operation : some) bits_ |= bit(operation);
  }
  constexpr bool contains(FileOperation operation) const { return (bits_ & bit(operation)) != 0; }

 private:
  static constexpr uint32_t bit(FileOperation operation) {
    return uint32_t{1} << static_cast<uint32_t>(operation);
  }
  uint32_t bits_ = 0;
};

inline constexpr OperationSet kAnyOperation = {
    FileOperation::kRead,     FileOperation::kWrite,      FileOperation::kWriteZeroes,
    FileOperation::kDiscard,  FileOperation::kFlush,      FileOperation::kTruncate,
    FileOperation::kAllocate, FileOperation::kBlockStatus};

}  // namespace imgconv::test
