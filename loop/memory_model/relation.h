// Relation: a set of pairs of events of one execution, with the algebra that axioms are written in;
// EventSet: a set of events. Both are bits, hence at most 64 events.
//
// An event is its index. Values; operands are of one size. Any thread.
#pragma once

#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>

namespace imgconv::memory_model {

inline constexpr size_t kMaxEvents = 64;

/// Bit i: event i is in it.
using EventSet = uint64_t;

inline constexpr EventSet only(size_t event) { return EventSet{1} << event; }

class Relation {
 public:
  Relation() = default;
  explicit Relation(size_t size) : size_(size) { assert(size <= kMaxEvents); }
  /// The pairs (e, e) for e in `events`: [events] in the notation of the models.
  static Relation identity(size_t size, EventSet events);

  size_t size() const { return size_; }
  bool has(size_t from, size_t to) const { return (rows_[from] & only(to)) != 0; }
  void add(size_t from, size_t to) { rows_[from] |= only(to); }
  void add_all(size_t from, EventSet to) { rows_[from] |= to; }
  EventSet successors(size_t from) const { return rows_[from]; }

  Relation& operator|=(const Relation& other);
  friend Relation operator|(Relation a, const Relation& b) { return a |= b; }
  friend Relation operator&(const Relation& a, const Relation& b);
  friend Relation operator-(const Relation& a, const Relation& b);
  /// a; b
  friend Relation operator*(const Relation& a, const Relation& b);

  /// [from]; this; [to]
  Relation between(EventSet from, EventSet to) const;
  Relation from(EventSet events) const { return between(events, ~EventSet{0}); }
  Relation to(EventSet events) const { return between(~EventSet{0}, events); }
  Relation inverse() const;
  /// r+
  Relation closure() const;
  /// r?
  Relation or_equal() const;
  EventSet range() const;

  bool is_empty() const;
  bool is_irreflexive() const;
  bool is_acyclic() const;

 private:
  size_t size_ = 0;
  std::array<EventSet, kMaxEvents> rows_{};
};

}  // namespace imgconv::memory_model
