#include "engine/turnstile.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "loop/task.h"

namespace imgconv {
namespace {

Task<void> walk_through(Turnstile& turnstile, uint64_t ticket, std::string& log) {
  const bool may_go_on = co_await turnstile.enter(ticket);
  log += may_go_on ? static_cast<char>('0' + ticket) : 'x';
}

TEST_CASE("Turnstile: who comes early waits for the tickets before", "[engine]") {
  Turnstile turnstile;
  std::string log;
  Task<void> third = walk_through(turnstile, 2, log);
  Task<void> second = walk_through(turnstile, 1, log);
  Task<void> first = walk_through(turnstile, 0, log);
  third.start();
  second.start();
  REQUIRE(log.empty());
  first.start();
  REQUIRE(log == "0");
  turnstile.pass();
  REQUIRE(log == "01");
  turnstile.pass();
  REQUIRE(log == "012");
}

TEST_CASE("Turnstile: a turn nobody waits for is kept for its ticket", "[engine]") {
  Turnstile turnstile;
  std::string log;
  turnstile.pass();
  Task<void> second = walk_through(turnstile, 1, log);
  second.start();
  REQUIRE(log == "1");
}

TEST_CASE("Turnstile: stop releases everybody, waiting or not yet there", "[engine]") {
  Turnstile turnstile;
  std::string log;
  Task<void> waiting = walk_through(turnstile, 3, log);
  Task<void> later = walk_through(turnstile, 5, log);
  waiting.start();
  turnstile.stop();
  later.start();
  REQUIRE(log == "xx");
  REQUIRE(waiting.is_done());
  REQUIRE(later.is_done());
}

}  // namespace
}  // namespace imgconv
