// ProbedRawFile: a file that is taken for a raw image only because its start looks like no other
// format (CLI.md 1.5). A write that would make it look like one fails with EPERM: whoever probes it
// next would otherwise read an image that a guest has made up, with a backing file of its choice.
//
// Owns the file behind it, to which it passes everything else. Threads as in File.
#pragma once

#include <memory>

#include "loop/file.h"

namespace imgconv {

/// The file with this guard in front of it.
std::unique_ptr<File> guard_probed_raw(std::unique_ptr<File> file);

}  // namespace imgconv
