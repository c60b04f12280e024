// `info --output=json` as a tree (CLI.md section 3). Pure function, any thread.
#pragma once

#include "cmd/image_facts.h"
#include "formats/info_value.h"

namespace imgconv {

InfoValue info_to_json(const ImageFacts& facts);

}  // namespace imgconv
