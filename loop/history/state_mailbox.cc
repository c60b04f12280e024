#include "loop/history/state_mailbox.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <ctime>

#include "loop/timer.h"

namespace imgconv::history {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

// Not FUTEX_PRIVATE_FLAG as in loop/sync.h: the two sides are processes.
void wait_while(std::atomic<uint32_t>& word, uint32_t value, const timespec* limit) {
  ::syscall(SYS_futex, &word, FUTEX_WAIT, value, limit, nullptr, 0);
}

void wake(std::atomic<uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

std::optional<StateCopy> StateMailbox::ask(int64_t limit_ns) {
  // Carries nothing: wait_for_question() only has to see that the number changed, and both sides
  // compare it with a word of their own.
  const uint32_t question =
      (asked_.fetch_add(kOneQuestion, std::memory_order_relaxed) + kOneQuestion) & ~kStopped;
  wake(asked_);
  const int64_t deadline_ns = steady_clock_ns() + limit_ns;
  // With the release in answer(): that this number is seen, and words of an earlier answer are
  // read, cannot be.
  for (uint32_t answered; (answered = answered_.load(std::memory_order_acquire)) != question;) {
    const int64_t left_ns = deadline_ns - steady_clock_ns();
    if (left_ns <= 0) return std::nullopt;
    const timespec limit{left_ns / kNsPerSecond, left_ns % kNsPerSecond};
    wait_while(answered_, answered, &limit);
  }
  StateCopy copy;
  for (uint32_t i = 0; i < std::min<size_t>(word_count_, kMaxWords); ++i) {
    copy.words.push_back({words_[i].name.data(), words_[i].value});
  }
  return copy;
}

bool StateMailbox::wait_for_question() {
  for (;;) {
    const uint32_t asked = asked_.load(std::memory_order_relaxed);
    if ((asked & kStopped) != 0) return false;
    // Its own word.
    if (asked != answered_.load(std::memory_order_relaxed)) return true;
    wait_while(asked_, asked, nullptr);
  }
}

void StateMailbox::answer(const ProtocolState& state) {
  word_count_ = 0;
  for (const ProtocolState::Word& word : state.words) {
    if (word_count_ == kMaxWords) break;
    Word& copy = words_[word_count_++];
    copy.name = {};
    word.name.copy(copy.name.data(), kMaxNameLength - 1);
    copy.value = word.value;
  }
  // With the acquire in ask(), which then reads the words above and none of an earlier answer.
  answered_.store(asked_.load(std::memory_order_relaxed) & ~kStopped, std::memory_order_release);
  wake(answered_);
}

void StateMailbox::stop() {
  // Publishes nothing: wait_for_question() looks at this word alone.
  asked_.fetch_or(kStopped, std::memory_order_relaxed);
  wake(asked_);
}

StateObserver::StateObserver(StateMailbox& mailbox, const LoopProtocol& protocol)
    : mailbox_(mailbox) {
  // Signals are for the loop thread.
  sigset_t all_signals;
  sigset_t previous;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_SETMASK, &all_signals, &previous);
  thread_ = std::thread([this, &protocol] {
    pthread_setname_np(pthread_self(), "observer");
    while (mailbox_.wait_for_question()) mailbox_.answer(protocol.state());
  });
  pthread_sigmask(SIG_SETMASK, &previous, nullptr);
}

StateObserver::~StateObserver() {
  mailbox_.stop();
  thread_.join();
}

}  // namespace imgconv::history
