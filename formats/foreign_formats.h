// What a file is that has no driver here. Probing takes for raw whatever nothing else claims; a
// disk of VMware or VirtualBox would be copied as the container that it is, and nobody would be
// told.
//
// Reads nothing but the bytes it is given, and knows only the names. Pure; any thread.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace imgconv {

/// The format that QEMU would recognise by the first 512 bytes (zero padded); empty when it is none
/// of those that have no driver here.
std::string_view probe_foreign_format(std::span<const std::byte> head);

}  // namespace imgconv
