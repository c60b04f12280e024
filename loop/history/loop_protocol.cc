#include "loop/history/loop_protocol.h"

#include "loop/history/armv8_sync.h"
#include "loop/history/catalogue.h"
#include "loop/history/cold_stores.h"
#include "loop/history/nested_poller.h"

namespace imgconv::history {
namespace {

/// A variant behind the interface. Each call is a side: it ends with leave().
template <class Variant, class Sync>
class Adapter final : public LoopProtocol {
 public:
  Adapter(unsigned cold_stores, uint64_t seed) : cold_stores_(cold_stores, seed) {}
  // What the last side of this thread stored must not be written to words that are gone.
  ~Adapter() override { Sync::leave(); }

  bool post(Job& job) override {
    const bool must_signal = variant_.post(job);
    Sync::leave();
    return must_signal;
  }
  bool prepare() override {
    cold_stores_.run();
    const bool may_sleep = variant_.prepare();
    Sync::leave();
    return may_sleep;
  }
  void check(bool was_signalled) override {
    variant_.check(was_signalled);
    Sync::leave();
  }
  Job* dispatch() override {
    cold_stores_.run();
    Job* const jobs = variant_.dispatch();
    Sync::leave();
    return jobs;
  }
  ProtocolState state() const override {
    ProtocolState state;
    variant_.visit_words([&state](std::string_view name, uint64_t value) {
      state.words.push_back({name, value});
    });
    state.has_undelivered = variant_.has_undelivered();
    return state;
  }
  Job* rescue() override { return variant_.rescue(); }

 private:
  Variant variant_;
  // Loop thread.
  ColdStores cold_stores_;
};

// The one whose program has three sides.
constexpr std::string_view kThreeThreads = "V1";

struct CollectIds {
  std::vector<std::string_view>& ids;

  template <class Variant>
  void operator()(std::string_view id) const {
    ids.push_back(id);
  }
};

template <class Sync>
struct MakeById {
  std::string_view wanted;
  unsigned cold_stores;
  uint64_t seed;
  std::unique_ptr<LoopProtocol>& made;

  template <class Variant>
  void operator()(std::string_view id) const {
    if (id == wanted) made = std::make_unique<Adapter<Variant, Sync>>(cold_stores, seed);
  }
};

template <class Sync>
std::unique_ptr<LoopProtocol> make(std::string_view id, unsigned cold_stores, uint64_t seed) {
  if (id == kThreeThreads) {
    return std::make_unique<Adapter<NestedPoller<Sync>, Sync>>(cold_stores, seed);
  }
  std::unique_ptr<LoopProtocol> made;
  visit_catalogue<Sync>(MakeById<Sync>{id, cold_stores, seed, made});
  return made;
}

}  // namespace

std::vector<std::string_view> loop_protocol_ids() {
  std::vector<std::string_view> ids = {kThreeThreads};
  visit_catalogue<NativeSync>(CollectIds{ids});
  return ids;
}

std::unique_ptr<LoopProtocol> make_loop_protocol(std::string_view id, Memory memory, uint64_t seed,
                                                 unsigned cold_stores) {
  if (memory == Memory::kNative) return make<NativeSync>(id, cold_stores, seed);
  Armv8Sync::seed(seed);
  return make<Armv8Sync>(id, cold_stores, seed);
}

}  // namespace imgconv::history
