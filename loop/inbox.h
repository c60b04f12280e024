// Inbox: an intrusive list that many threads push to and one thread empties. Lock-free, allocates
// nothing, owns nothing: an item belongs to its pusher until push(), to the consumer after drain().
// It does not wake anybody; see wake_gate.h.
//
// T has a member `T* next`: the inbox's from push() to drain(), the consumer's afterwards.
#pragma once

#include <utility>

#include "loop/sync.h"

namespace imgconv {

template <class T, class Sync>
class BasicInbox {
 public:
  BasicInbox() = default;
  BasicInbox(const BasicInbox&) = delete;
  BasicInbox& operator=(const BasicInbox&) = delete;

  /// Any thread. True if the inbox was empty: then the caller kicks the gate. A caller that gets
  /// false may leave it to the one who got true, since drain() takes everything.
  bool push(T& item) {
    // Only a guess for the first attempt below.
    T* head = head_.load(std::memory_order_relaxed);
    do {
      item.next = head;
      // Publishes the item and its link to drain(). Later pushes are read-modify-writes and so
      // extend this publication: drain() sees all items although it reads only the last head.
      // Checked by tests/model/inbox_model.cc (mutant kInboxPush).
    } while (!head_.compare_exchange_weak(head, &item,
                                          Sync::at(Site::kInboxPush, std::memory_order_release),
                                          std::memory_order_relaxed));
    return head == nullptr;
  }

  /// Consumer. A hint unless a fence stands before it, as in the look for work after
  /// WakeGate::arm(): there, "empty" means that whoever pushes later will see the gate armed.
  bool is_empty() const { return head_.load(std::memory_order_relaxed) == nullptr; }

  /// Consumer: takes all items, linked by `next` in push order; null if there are none.
  T* drain() {
    // Sees what push() published.
    // Checked by tests/model/inbox_model.cc (mutant kInboxDrain).
    T* newest = head_.exchange(nullptr, Sync::at(Site::kInboxDrain, std::memory_order_acquire));
    T* oldest = nullptr;
    while (newest != nullptr) {
      T* next = newest->next;
      newest->next = oldest;
      oldest = std::exchange(newest, next);
    }
    return oldest;
  }

 private:
  typename Sync::template Atomic<T*> head_{nullptr};
};

template <class T>
using Inbox = BasicInbox<T, StdSync>;

}  // namespace imgconv
