#include "loop/memory_model/communications.h"

#include <algorithm>

namespace imgconv::memory_model {
namespace {

class Enumeration {
 public:
  Enumeration(const Skeleton& skeleton, LocationId location, const HistoryRules& rules,
              uint64_t limit)
      : skeleton_(skeleton), rules_(rules), limit_(limit), rank_(skeleton.events.size()) {
    for (size_t i = 0; i < skeleton.events.size(); ++i) {
      const Event& event = skeleton.events[i];
      if (event.kind == Event::Kind::kFence || event.location != location) continue;
      (event.kind == Event::Kind::kRead ? reads_ : writes_).push_back(i);
    }
    // The initial write.
    current_.writes_in_order.push_back(writes_.front());
    placed_ = only(writes_.front());
  }

  std::vector<LocationHistory> run() && {
    place_write();
    return std::move(found_);
  }

 private:
  bool is_enough() const { return found_.size() > limit_; }

  void place_write() {
    if (current_.writes_in_order.size() == writes_.size()) {
      choose_source(0);
      return;
    }
    for (const size_t write : writes_) {
      if ((placed_ & only(write)) != 0 || is_enough() || comes_too_early(write)) continue;
      rank_[write] = current_.writes_in_order.size();
      current_.writes_in_order.push_back(write);
      placed_ |= only(write);
      place_write();
      placed_ &= ~only(write);
      current_.writes_in_order.pop_back();
    }
  }

  /// An earlier write of the thread has no place yet.
  bool comes_too_early(size_t write) const {
    return rules_.is_coherent &&
           std::any_of(writes_.begin(), writes_.end(), [this, write](size_t other) {
             return skeleton_.po.has(other, write) && (placed_ & only(other)) == 0;
           });
  }

  void choose_source(size_t read_index) {
    if (read_index == reads_.size()) {
      found_.push_back(current_);
      return;
    }
    const size_t read = reads_[read_index];
    for (const size_t write : writes_) {
      if (is_enough()) return;
      const bool has_value = skeleton_.events[write].value == skeleton_.events[read].value;
      if (!has_value || !may_read(read, write)) continue;
      current_.reads_from.push_back({write, read});
      choose_source(read_index + 1);
      current_.reads_from.pop_back();
    }
  }

  bool may_read(size_t read, size_t write) const {
    if (rules_.is_atomic) {
      for (const size_t other : writes_) {
        if (skeleton_.rmw.has(read, other) && rank_[other] != rank_[write] + 1) return false;
      }
    }
    if (!rules_.is_coherent) return true;
    // The four ways of "coherence" (CoWR, CoRW, CoRR in both directions of rf); CoWW is
    // comes_too_early().
    for (const size_t other : writes_) {
      if (skeleton_.po.has(other, read) && rank_[other] > rank_[write]) return false;
      if (skeleton_.po.has(read, other) && rank_[other] <= rank_[write]) return false;
    }
    return std::none_of(current_.reads_from.begin(), current_.reads_from.end(),
                        [this, read, write](const LocationHistory::ReadFrom& earlier) {
                          return skeleton_.po.has(earlier.read, read) &&
                                 rank_[earlier.write] > rank_[write];
                        });
  }

  const Skeleton& skeleton_;
  HistoryRules rules_;
  uint64_t limit_;
  std::vector<size_t> reads_;
  std::vector<size_t> writes_;
  /// Place of a write in the order.
  std::vector<size_t> rank_;
  EventSet placed_ = 0;
  LocationHistory current_;
  std::vector<LocationHistory> found_;
};

}  // namespace

std::vector<LocationHistory> location_histories(const Skeleton& skeleton, LocationId location,
                                                const HistoryRules& rules, uint64_t limit) {
  return Enumeration(skeleton, location, rules, limit).run();
}

void add_history(const LocationHistory& history, Communication& communication) {
  const std::vector<size_t>& writes = history.writes_in_order;
  for (size_t i = 0; i < writes.size(); ++i) {
    for (size_t later = i + 1; later < writes.size(); ++later) {
      communication.co.add(writes[i], writes[later]);
    }
  }
  for (const LocationHistory::ReadFrom& read_from : history.reads_from) {
    communication.rf.add(read_from.write, read_from.read);
    // A write of the same read-modify-write is after what was read, and no obstacle: fr is kept
    // for it, too, as the models do.
    communication.fr.add_all(read_from.read, communication.co.successors(read_from.write));
  }
}

}  // namespace imgconv::memory_model
