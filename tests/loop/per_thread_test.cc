#include "loop/per_thread.h"

#include <catch2/catch.hpp>
#include <thread>

namespace imgconv {
namespace {

int alive = 0;

struct Counted {
  Counted() { ++alive; }
  ~Counted() { --alive; }
  int value = 0;
};

}  // namespace

TEST_CASE("PerThread: each thread has its own, which goes with the thread", "[loop][per_thread]") {
  static const PerThread<Counted> objects;
  objects.get().value = 1;
  int other_value = -1;
  int alive_meanwhile = 0;
  std::thread([&] {
    other_value = objects.get().value;
    objects.get().value = 2;
    alive_meanwhile = alive;
  }).join();
  CHECK(other_value == 0);
  CHECK(alive_meanwhile == 2);
  CHECK(alive == 1);
  CHECK(objects.get().value == 1);
}

}  // namespace imgconv
