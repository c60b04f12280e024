// WakeGate with the inbox it guards and an eventfd: no item is left behind while the loop sleeps.
#include "tests/model/notifier.h"
#include "tests/model/relacy_sync.h"
#include "tests/model/verdict.h"

#include "loop/inbox.h"

namespace imgconv::model {
namespace {

struct Item {
  RelacySync::Shared<Item*> next{nullptr};
  RelacySync::Shared<int> payload{0};
};

enum class LookForWork { kAfterArming, kLeftOut };

/// Thread 0 is the loop; each of the others delivers one item.
template <rl::thread_id_t kProducers, LookForWork kLook>
struct Delivery : rl::test_suite<Delivery<kProducers, kLook>, kProducers + 1> {
  void thread(unsigned index) {
    if (index == 0) {
      receive(kProducers);
    } else {
      deliver(items[index - 1]);
    }
  }

  void deliver(Item& item) {
    item.payload = 1;
    inbox.push(item);
    sleeper.kick();
  }

  void receive(int num_expected) {
    int received = 0;
    while (received < num_expected) {
      sleeper.sleep_unless([&] { return kLook == LookForWork::kAfterArming && !inbox.is_empty(); });
      for (Item* item = inbox.drain(); item != nullptr; item = item->next) {
        received += item->payload;
      }
    }
  }

  BasicInbox<Item, RelacySync> inbox;
  Sleeper sleeper;
  Item items[kProducers];
};

using OneProducer = Delivery<1, LookForWork::kAfterArming>;
using TwoProducers = Delivery<2, LookForWork::kAfterArming>;
using NoLookForWork = Delivery<1, LookForWork::kLeftOut>;

/// Only the producer that found the inbox empty kicks, as Inbox::push allows.
struct FirstPusherKicks : rl::test_suite<FirstPusherKicks, 3> {
  void thread(unsigned index) {
    if (index == 0) {
      int received = 0;
      while (received < 2) {
        sleeper.sleep_unless([&] { return !inbox.is_empty(); });
        for (Item* item = inbox.drain(); item != nullptr; item = item->next) {
          received += item->payload;
        }
      }
    } else {
      items[index - 1].payload = 1;
      if (inbox.push(items[index - 1])) sleeper.kick();
    }
  }

  BasicInbox<Item, RelacySync> inbox;
  Sleeper sleeper;
  Item items[2];
};

/// The loop is also woken by something that is not an item, and goes to sleep again.
struct OtherWakeUps : Delivery<2, LookForWork::kAfterArming> {
  void thread(unsigned index) {
    if (index == 0) return receive(1);
    if (index == 1) return deliver(items[0]);
    sleeper.wake_for_another_reason();
  }
};

int run() {
  Verdict verdict("wake_gate");
  IMGCONV_HOLDS(verdict, OneProducer);
  IMGCONV_HOLDS(verdict, TwoProducers);
  IMGCONV_HOLDS(verdict, FirstPusherKicks);
  IMGCONV_HOLDS(verdict, OtherWakeUps);
  IMGCONV_MUTANT(verdict, OneProducer, kGateArm);
  IMGCONV_MUTANT(verdict, OneProducer, kGateKick);
  IMGCONV_MUTANT(verdict, OneProducer, kInboxPush);
  IMGCONV_MUTANT(verdict, OneProducer, kInboxDrain);
  verdict.must_fail<NoLookForWork>("OneProducer", "no look for work after arming");
  return verdict.exit_code();
}

}  // namespace
}  // namespace imgconv::model

int main() { return imgconv::model::run(); }
