// imgconv commit: options, and the call of what does the work.
#pragma once

#include "cmd/command.h"

namespace imgconv {

extern const Command kCommitCommand;

}  // namespace imgconv
