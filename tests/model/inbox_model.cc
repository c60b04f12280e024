// Inbox: every item arrives once, in its pusher's order, with what its pusher wrote into it.
#include "tests/model/relacy_sync.h"
#include "tests/model/verdict.h"

#include "loop/inbox.h"

namespace imgconv::model {
namespace {

struct Item {
  RelacySync::Shared<Item*> next{nullptr};
  RelacySync::Shared<int> serial{0};
};

constexpr int kPushers = 2;
constexpr int kItemsEach = 2;

/// Thread 0 drains, the others push two items each.
struct TwoPushers : rl::test_suite<TwoPushers, kPushers + 1> {
  void thread(unsigned index) {
    if (index == 0) {
      drain_all();
      return;
    }
    for (int i = 0; i < kItemsEach; ++i) {
      Item& item = items[index - 1][i];
      item.serial = i + 1;
      if (inbox.push(item)) ++num_found_empty[index - 1];
    }
  }

  void drain_all() {
    int last_serial[kPushers] = {};
    for (int received = 0; received < kPushers * kItemsEach;) {
      Item* item = inbox.drain();
      if (item == nullptr) {
        rl::yield(1, RL_INFO);
        continue;
      }
      ++num_deliveries;
      for (; item != nullptr; item = item->next, ++received) {
        const int pusher = item >= items[1] ? 1 : 0;
        const int serial = item->serial;
        RL_ASSERT(serial == last_serial[pusher] + 1);
        last_serial[pusher] = serial;
      }
    }
  }

  void after() {
    RL_ASSERT(num_found_empty[0] + num_found_empty[1] == num_deliveries);
    RL_ASSERT(inbox.is_empty());
  }

  BasicInbox<Item, RelacySync> inbox;
  Item items[kPushers][kItemsEach];
  int num_found_empty[kPushers] = {};
  int num_deliveries = 0;
};

int run() {
  Verdict verdict("inbox");
  IMGCONV_HOLDS(verdict, TwoPushers);
  IMGCONV_MUTANT(verdict, TwoPushers, kInboxPush);
  IMGCONV_MUTANT(verdict, TwoPushers, kInboxDrain);
  return verdict.exit_code();
}

}  // namespace
}  // namespace imgconv::model

int main() { return imgconv::model::run(); }
