// How finished jobs travel in loop/history/, apart from the protocol's words. JobStack: published
// with the schedule itself. RequestList: the pool's list of requests, each with a word that says
// "done", which a callback may read too early; the protocols about stale data use it.
//
// push, add: any thread. The rest: loop thread. Neither owns a job. The plumbing is on plain
// std::atomic whatever the policy, so that only the words of the case file misbehave.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "loop/executor.h"
#include "loop/history/history_sync.h"
#include "loop/inbox.h"

namespace imgconv::history {

/// What a case file's program hands over: nobody runs it.
class NoJob final : public Job {
 public:
  void run() override {}
  void complete() override {}
};

/// Jobs in order, linked by `next`.
class JobList {
 public:
  void append(Job* chain) {
    if (chain == nullptr) return;
    (head_ == nullptr ? head_ : tail_->next) = chain;
    tail_ = chain;
    while (tail_->next != nullptr) tail_ = tail_->next;
  }
  Job* head() const { return head_; }

 private:
  Job* head_ = nullptr;
  Job* tail_ = nullptr;
};

/// Of jobs linked by `next`.
inline unsigned length_of(const Job* job) {
  unsigned length = 0;
  for (; job != nullptr; job = job->next) ++length;
  return length;
}

using JobStack = Inbox<Job>;

template <class Sync>
class RequestList {
 public:
  struct Request {
    typename Sync::template Atomic<uint32_t> done{0};
    // What `done` holds when this use of the slot is over. A new one each time, so that nobody has
    // to reset `done`, which would be one more racing store.
    uint32_t serial() const { return use_.load(std::memory_order_relaxed); }

   private:
    friend class RequestList;
    // Both written by add(), published by the bit in in_use_.
    std::atomic<uint32_t> use_{0};
    Job* job_ = nullptr;
  };

  /// Any thread. Limit: with 64 requests not yet taken it waits for the loop.
  Request& add(Job& job) {
    job.next = nullptr;
    for (;;) {
      uint64_t reserved = reserved_.load(std::memory_order_relaxed);
      if (reserved == ~uint64_t{0}) {
        Sync::relax();
        continue;
      }
      const int index = std::countr_one(reserved);
      const uint64_t bit = uint64_t{1} << index;
      if (!reserved_.compare_exchange_weak(reserved, reserved | bit, std::memory_order_acquire,
                                           std::memory_order_relaxed)) {
        continue;
      }
      Request& request = requests_[static_cast<size_t>(index)];
      request.job_ = &job;
      request.use_.store(request.serial() + 1, std::memory_order_relaxed);
      in_use_.fetch_or(bit, std::memory_order_release);
      return request;
    }
  }

  /// Reads each request's word: the jobs of those that are done.
  Job* take_done() {
    uint64_t done_bits = 0;
    visit([&done_bits](const Request& request, uint64_t bit) {
      // As weak as the case file has it: the job's content comes with in_use_.
      if (is_done(request, std::memory_order_relaxed)) done_bits |= bit;
    });
    // Not one by one: a read-modify-write in front of a look would order it after all stores.
    return take(done_bits);
  }

  /// Without taking any.
  bool has_done(std::memory_order order) {
    // No request is no reason not to look: an acquiring look also orders what the caller stored
    // before it (V9_old), and what comes into the list meanwhile is seen below.
    if (is_empty()) (void)requests_[0].done.load(order);
    bool found = false;
    visit([&found, order](const Request& request, uint64_t) {
      found = found || is_done(request, order);
    });
    return found;
  }

  bool is_empty() const { return in_use_.load(std::memory_order_relaxed) == 0; }

  /// Without the words.
  Job* take_all() { return take(in_use_.load(std::memory_order_relaxed)); }

 private:
  static bool is_done(const Request& request, std::memory_order order) {
    return request.done.load(order) == request.serial();
  }

  template <class Visitor>
  void visit(Visitor visitor) {
    // No acquire, which on ARM would keep the looks behind the caller's announcement (an LDAR waits
    // for an STLXR) and so repair V7_old. The looks depend on the index by their addresses, and
    // every machine keeps that order.
    uint64_t left = in_use_.load(std::memory_order_relaxed);
    // The condition is a word that is always there: without requests, that of the next one.
    if (left == 0) (void)requests_[0].done.load(std::memory_order_relaxed);
    for (; left != 0; left &= left - 1) {
      visitor(requests_[static_cast<size_t>(std::countr_zero(left))], left & -left);
    }
  }

  // The release of in_use_ in add() and the acquire here publish the jobs. The acquiring CAS in
  // add() is the partner of the release here: what the loop read of a slot is not overtaken by the
  // next user's writes into it. Neither is a word of the case file.
  Job* take(uint64_t bits) {
    if (bits == 0) return nullptr;
    in_use_.fetch_and(~bits, std::memory_order_acquire);
    JobList taken;
    for (uint64_t left = bits; left != 0; left &= left - 1) {
      taken.append(requests_[static_cast<size_t>(std::countr_zero(left))].job_);
    }
    reserved_.fetch_and(~bits, std::memory_order_release);
    return taken.head();
  }

  std::array<Request, 64> requests_;
  std::atomic<uint64_t> reserved_{0};
  std::atomic<uint64_t> in_use_{0};
};

/// The part of a variant about stale data that has to do with its requests. before_program() makes
/// the one request that the case file's program is about.
template <class Sync>
class OnRequests {
 public:
  bool has_undelivered() const { return !requests_.is_empty(); }
  Job* rescue() { return requests_.take_all(); }

 protected:
  using Word = typename Sync::template Atomic<uint32_t>;
  using Request = typename RequestList<Sync>::Request;

  void add_request_of_program() { request_of_program_ = &requests_.add(job_of_program_); }

  alignas(64) RequestList<Sync> requests_;
  Request* request_of_program_ = nullptr;

 private:
  NoJob job_of_program_;
};

}  // namespace imgconv::history
