#include "loop/inbox.h"

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <latch>
#include <thread>
#include <vector>

namespace imgconv {
namespace {

struct Item {
  Item* next = nullptr;
  size_t pusher = 0;
  size_t serial = 0;
};

TEST_CASE("Inbox: drain returns items in push order", "[loop]") {
  Inbox<Item> inbox;
  std::array<Item, 3> items;
  for (Item& item : items) inbox.push(item);
  Item* first = inbox.drain();
  REQUIRE(first == &items[0]);
  REQUIRE(first->next == &items[1]);
  REQUIRE(first->next->next == &items[2]);
  CHECK(first->next->next->next == nullptr);
}

TEST_CASE("Inbox: drain leaves it empty", "[loop]") {
  Inbox<Item> inbox;
  Item item;
  CHECK(inbox.is_empty());
  inbox.push(item);
  CHECK_FALSE(inbox.is_empty());
  CHECK(inbox.drain() == &item);
  CHECK(inbox.is_empty());
  CHECK(inbox.drain() == nullptr);
}

TEST_CASE("Inbox: push says who found it empty", "[loop]") {
  Inbox<Item> inbox;
  std::array<Item, 3> items;
  CHECK(inbox.push(items[0]));
  CHECK_FALSE(inbox.push(items[1]));
  inbox.drain();
  CHECK(inbox.push(items[2]));
}

TEST_CASE("Inbox: an item may be pushed again after it was drained", "[loop]") {
  Inbox<Item> inbox;
  Item item;
  for (int round = 0; round < 3; ++round) {
    inbox.push(item);
    REQUIRE(inbox.drain() == &item);
    REQUIRE(item.next == nullptr);
  }
}

TEST_CASE("Inbox: items of four threads arrive once and in each thread's order", "[loop]") {
  constexpr size_t kPushers = 4;
  constexpr size_t kItemsEach = 200'000;
  Inbox<Item> inbox;
  std::vector<std::vector<Item>> items(kPushers, std::vector<Item>(kItemsEach));

  // Together, or each would be done before the next one starts.
  std::latch start(kPushers);
  std::vector<std::thread> pushers;
  for (size_t pusher = 0; pusher < kPushers; ++pusher) {
    pushers.emplace_back([&inbox, &start, &mine = items[pusher], pusher] {
      start.arrive_and_wait();
      for (size_t i = 0; i < mine.size(); ++i) {
        mine[i].pusher = pusher;
        mine[i].serial = i;
        inbox.push(mine[i]);
      }
    });
  }

  std::array<size_t, kPushers> num_received = {};
  bool in_order = true;
  for (size_t received = 0; received < kPushers * kItemsEach;) {
    Item* item = inbox.drain();
    if (item == nullptr) std::this_thread::yield();
    for (; item != nullptr; item = item->next, ++received) {
      in_order = in_order && item->serial == num_received[item->pusher];
      ++num_received[item->pusher];
    }
  }
  for (std::thread& pusher : pushers) pusher.join();
  CHECK(in_order);
  for (const size_t count : num_received) CHECK(count == kItemsEach);
}

}  // namespace
}  // namespace imgconv
