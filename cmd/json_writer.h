// JSON text as qemu-img prints it: four blanks of indentation, members in the order of QEMU's hash
// table, everything beyond ASCII escaped. Output only; pure functions, any thread.
#pragma once

#include <string>
#include <vector>

#include "formats/info_value.h"

namespace imgconv {

/// The members in the order in which QEMU prints them (CLI.md 1.10). The human "Format specific
/// information" block follows it, too. Pointers into `object`.
std::vector<const InfoValue::Member*> in_qemu_order(const InfoValue::Object& object);

/// Appends a member whose value is no temporary InfoValue: g++ 12 takes parts of a temporary for
/// uninitialized once it inlines the move.
void add_member(InfoValue::Object& object, const char* key, decltype(InfoValue::value) value);

/// The document without a final newline.
std::string to_json(const InfoValue& value);

}  // namespace imgconv
