// `reproduce`: the historical hangs of the converter in a loop, and the proof that ours has none.
#pragma once

#include "cmd/command.h"

namespace imgconv {

extern const Command kReproduceCommand;

}  // namespace imgconv
