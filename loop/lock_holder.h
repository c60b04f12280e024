// Who holds a lock on a file: for the line behind "Is another process using the image?".
//
// The kernel names no process for the locks that QEMU takes (/proc/locks shows -1: they belong to
// an open file, which several processes may share). So the open files of all processes are looked
// through, as far as we may see them. Takes no lock and opens no image. Any thread.
#pragma once

#include <sys/types.h>

#include <string>

namespace imgconv {

/// "Process 4711 holds the lock: qemu-nbd -t disk.qcow2" for a process other than this one that has
/// a byte-range lock which covers `byte` of the file behind `descriptor`; empty when there is none,
/// or none that we may look at.
std::string describe_lock_holder(int descriptor, off_t byte);

}  // namespace imgconv
