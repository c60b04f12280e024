// imgconv resize: a larger or smaller disk.
#pragma once

#include "cmd/command.h"

namespace imgconv {

extern const Command kResizeCommand;

}  // namespace imgconv
