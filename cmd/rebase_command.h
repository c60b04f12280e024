// rebase: the command line of "another backing file for an image". Main thread only.
#pragma once

#include "cmd/command.h"

namespace imgconv {

extern const Command kRebaseCommand;

}  // namespace imgconv
