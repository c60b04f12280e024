#include "loop/memory_model/execution.h"

namespace imgconv::memory_model {
namespace {

void add_event(Skeleton& skeleton, size_t first_of_thread, const Event& event) {
  const size_t index = skeleton.events.size();
  skeleton.events.push_back(event);
  switch (event.kind) {
    case Event::Kind::kRead:
      skeleton.reads |= only(index);
      break;
    case Event::Kind::kWrite:
      skeleton.writes |= only(index);
      break;
    case Event::Kind::kFence:
      skeleton.fences |= only(index);
      break;
  }
  if (event.is_initial()) return;
  for (size_t earlier = first_of_thread; earlier < index; ++earlier) {
    skeleton.po.add(earlier, index);
    const EventSet bit = only(earlier - first_of_thread);
    if ((event.address_reads & bit) != 0) skeleton.address.add(earlier, index);
    if ((event.data_reads & bit) != 0) skeleton.data.add(earlier, index);
    if ((event.control_reads & bit) != 0) skeleton.control.add(earlier, index);
  }
  if (event.is_rmw_write) skeleton.rmw.add(index - 1, index);
}

}  // namespace

EventSet Skeleton::tagged(Tags any_of, EventSet among) const {
  EventSet result = 0;
  for (size_t i = 0; i < events.size(); ++i) {
    if ((events[i].tags & any_of) != 0) result |= only(i);
  }
  return result & among;
}

Skeleton make_skeleton(const Program& program, const std::vector<const Path*>& paths) {
  size_t size = program.locations.size();
  for (const Path* path : paths) size += path->events.size();
  Skeleton skeleton;
  for (Relation* relation : {&skeleton.po, &skeleton.address, &skeleton.data, &skeleton.control,
                             &skeleton.rmw, &skeleton.same_location, &skeleton.external}) {
    *relation = Relation(size);
  }
  skeleton.events.reserve(size);
  for (size_t i = 0; i < program.locations.size(); ++i) {
    Event initial;
    initial.kind = Event::Kind::kWrite;
    initial.location = static_cast<LocationId>(i);
    initial.value = program.locations[i].initial;
    add_event(skeleton, 0, initial);
  }
  for (const Path* path : paths) {
    const size_t first_of_thread = skeleton.events.size();
    for (const Event& event : path->events) add_event(skeleton, first_of_thread, event);
  }
  const EventSet accesses = skeleton.reads | skeleton.writes;
  for (size_t a = 0; a < size; ++a) {
    for (size_t b = 0; b < size; ++b) {
      const Event& from = skeleton.events[a];
      const Event& to = skeleton.events[b];
      if (from.thread != to.thread) skeleton.external.add(a, b);
      const bool are_accesses = (accesses & only(a)) != 0 && (accesses & only(b)) != 0;
      if (are_accesses && from.location == to.location) skeleton.same_location.add(a, b);
    }
  }
  return skeleton;
}

}  // namespace imgconv::memory_model
