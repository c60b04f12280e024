#include "tests/support/file_operation.h"

namespace imgconv::test {

const char* operation_name(FileOperation operation) {
  switch (operation) {
    case FileOperation::kRead:
      return "read";
    case FileOperation::kWrite:
      return "write";
    case FileOperation::kWriteZeroes:
      return "write_zeroes";
    case FileOperation::kDiscard:
      return "discard";
    case FileOperation::kFlush:
      return "flush";
    case FileOperation::kTruncate:
      return "truncate";
    case FileOperation::kAllocate:
      return "allocate";
    case FileOperation::kBlockStatus:
      return "block_status";
    case FileOperation::kStat:
      return "stat";
  }
  return "?";
}

}  // namespace imgconv::test
