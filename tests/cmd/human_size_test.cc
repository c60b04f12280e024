#include "cmd/human_size.h"

#include <catch2/catch.hpp>

namespace imgconv {

TEST_CASE("human_size: three significant digits and the unit", "[cmd]") {
  CHECK(human_size(0) == "0 B");
  CHECK(human_size(512) == "512 B");
  CHECK(human_size(196 * 1024) == "196 KiB");
  CHECK(human_size(1509949) == "1.44 MiB");
  CHECK(human_size(uint64_t{64} << 20) == "64 MiB");
  CHECK(human_size(uint64_t{5} << 40) == "5 TiB");
}

TEST_CASE("human_size: the next unit begins at 1000", "[cmd]") {
  CHECK(human_size(999) == "999 B");
  CHECK(human_size(1000) == "0.977 KiB");
  CHECK(human_size(1000 * 1024 - 1024) == "999 KiB");
  CHECK(human_size(1000 * 1024) == "0.977 MiB");
}

TEST_CASE("human_size: EiB is the last unit", "[cmd]") {
  CHECK(human_size(UINT64_MAX) == "16 EiB");
}

}  // namespace imgconv
