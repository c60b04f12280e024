#include "loop/memory_model/relation.h"

namespace imgconv::memory_model {

Relation Relation::identity(size_t size, EventSet events) {
  Relation result(size);
  for (size_t i = 0; i < size; ++i) result.rows_[i] = events & only(i);
  return result;
}

Relation& Relation::operator|=(const Relation& other) {
  assert(size_ == other.size_);
  for (size_t i = 0; i < size_; ++i) rows_[i] |= other.rows_[i];
  return *this;
}

Relation operator&(const Relation& a, const Relation& b) {
  assert(a.size_ == b.size_);
  Relation result(a.size_);
  for (size_t i = 0; i < a.size_; ++i) result.rows_[i] = a.rows_[i] & b.rows_[i];
  return result;
}

Relation operator-(const Relation& a, const Relation& b) {
  assert(a.size_ == b.size_);
  Relation result(a.size_);
  for (size_t i = 0; i < a.size_; ++i) result.rows_[i] = a.rows_[i] & ~b.rows_[i];
  return result;
}

Relation operator*(const Relation& a, const Relation& b) {
  assert(a.size_ == b.size_);
  Relation result(a.size_);
  for (size_t i = 0; i < a.size_; ++i) {
    for (EventSet middle = a.rows_[i]; middle != 0; middle &= middle - 1) {
      result.rows_[i] |= b.rows_[static_cast<size_t>(std::countr_zero(middle))];
    }
  }
  return result;
}

Relation Relation::between(EventSet from, EventSet to) const {
  Relation result(size_);
  for (size_t i = 0; i < size_; ++i) {
    if ((from & only(i)) != 0) result.rows_[i] = rows_[i] & to;
  }
  return result;
}

Relation Relation::inverse() const {
  Relation result(size_);
  for (size_t i = 0; i < size_; ++i) {
    for (EventSet to = rows_[i]; to != 0; to &= to - 1) {
      result.add(static_cast<size_t>(std::countr_zero(to)), i);
    }
  }
  return result;
}

Relation Relation::closure() const {
  // Warshall's algorithm, a row at a time.
  Relation result = *this;
  for (size_t middle = 0; middle < size_; ++middle) {
    for (size_t i = 0; i < size_; ++i) {
      if (result.has(i, middle)) result.rows_[i] |= result.rows_[middle];
    }
  }
  return result;
}

Relation Relation::or_equal() const { return *this | identity(size_, ~EventSet{0}); }

EventSet Relation::range() const {
  EventSet result = 0;
  for (size_t i = 0; i < size_; ++i) result |= rows_[i];
  return result;
}

bool Relation::is_empty() const { return range() == 0; }

bool Relation::is_irreflexive() const {
  for (size_t i = 0; i < size_; ++i) {
    if (has(i, i)) return false;
  }
  return true;
}

bool Relation::is_acyclic() const {
  // Takes away events without successors until none is left or none can be.
  EventSet left = size_ == kMaxEvents ? ~EventSet{0} : only(size_) - 1;
  for (bool progress = true; progress && left != 0;) {
    progress = false;
    for (EventSet rest = left; rest != 0; rest &= rest - 1) {
      const size_t event = static_cast<size_t>(std::countr_zero(rest));
      if ((rows_[event] & left) != 0) continue;
      left &= ~only(event);
      progress = true;
    }
  }
  return left == 0;
}

}  // namespace imgconv::memory_model
