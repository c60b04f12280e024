// The digest of a whole file, read from begin to end; its holes are not read. For --digest file:ALG
// of a target whose bytes are not written in their order. Loop thread only; reads on the pool.
#pragma once

#include <string>
#include <vector>

#include "loop/result.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

/// One value for each algorithm, in hexadecimal. The arguments must outlive the task.
Task<Result<std::vector<std::string>>> digest_file(Storage& storage, const std::string& name,
                                                   const std::vector<std::string>& algorithms);

}  // namespace imgconv
