// imgconv snapshot: internal snapshots listed, taken, applied and deleted.
#pragma once

#include "cmd/command.h"

namespace imgconv {

extern const Command kSnapshotCommand;

}  // namespace imgconv
