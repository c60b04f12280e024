// imgconv amend: another version, refcount width or size of an image, without copying it.
#pragma once

#include "cmd/command.h"

namespace imgconv {

extern const Command kAmendCommand;

}  // namespace imgconv
