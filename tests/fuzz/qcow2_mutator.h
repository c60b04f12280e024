// Changes to a qcow2 image by somebody who knows the format: a field of the header, of an
// extension, a snapshot or a bitmap, or an entry of a table gets a value that matters there.
// Random bytes seldom lead past the header. Shares no code with formats/. Pure, any thread.
#pragma once

#include <cstdint>
#include <span>

namespace imgconv::fuzz {

/// The same seed changes the same image in the same way. The length stays.
void mutate_qcow2(std::span<uint8_t> image, uint32_t seed);

}  // namespace imgconv::fuzz
