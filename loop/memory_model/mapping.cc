// Sources of the table:
// - x86 and ARMv8 loads, stores and fences: P. Sewell, J. Sevcik, "C/C++11 mappings to processors",
//   https://www.cl.cam.ac.uk/~pes20/cpp/cpp0xmappings.html; what GCC 12 and Clang 15 emit.
// - Read-modify-writes: GCC's aarch64 back end, -mno-outline-atomics with -march=armv8-a and with
//   -march=armv8-a+lse. GCC's __sync builtins add the DMB to the exclusive pair alone
//   (aarch64_emit_post_barrier), since a later access may overtake the STLXR.
// - LDAPR: -march=armv8-a+rcpc, in GCC 13 and Clang 16 for acquire loads; seq_cst ones stay LDAR.
//   On top of exclusive pairs, so that the column differs from LL/SC in this one thing. With LSE
//   and RCpc together the difference shows only behind a store-release.
// - atomic_mb_set: QEMU's include/qemu/atomic.h before 2023.
#include "loop/memory_model/mapping.h"

#include <array>
#include <cassert>
#include <string_view>
#include <utility>

namespace imgconv::memory_model {
namespace {

enum class Access : uint8_t { kLoad, kStore, kReadModifyWrite, kFence, kMbSet };

enum class Code : uint8_t {
  kNothing,
  kMov,
  kXchgStore,
  kLock,
  kMfence,
  kLdr,
  kLdar,
  kLdapr,
  kStr,
  kStlr,
  kStlrDmb,
  kLdxrStxr,
  kLdaxrStxr,
  kLdxrStlxr,
  kLdaxrStlxr,
  kLdxrStlxrDmb,
  kAmo,
  kAmoA,
  kAmoL,
  kAmoAl,
  kDmbIshld,
  kDmbIsh,
};

struct Row {
  Access access;
  Order order;
  Code x86;
  Code arm_llsc;
  Code arm_lse;
  Code arm_rcpc;
};

using enum Code;

// clang-format off
constexpr Row kTable[] = {
    // access                    order             x86         LL/SC          LSE        RCpc
    {Access::kLoad,            Order::kRelaxed,  kMov,       kLdr,          kLdr,      kLdr},
    {Access::kLoad,            Order::kAcquire,  kMov,       kLdar,         kLdar,     kLdapr},
    {Access::kLoad,            Order::kSeqCst,   kMov,       kLdar,         kLdar,     kLdar},
    {Access::kStore,           Order::kRelaxed,  kMov,       kStr,          kStr,      kStr},
    {Access::kStore,           Order::kRelease,  kMov,       kStlr,         kStlr,     kStlr},
    {Access::kStore,           Order::kSeqCst,   kXchgStore, kStlr,         kStlr,     kStlr},
    {Access::kReadModifyWrite, Order::kRelaxed,  kLock,      kLdxrStxr,     kAmo,      kLdxrStxr},
    {Access::kReadModifyWrite, Order::kAcquire,  kLock,      kLdaxrStxr,    kAmoA,     kLdaxrStxr},
    {Access::kReadModifyWrite, Order::kRelease,  kLock,      kLdxrStlxr,    kAmoL,     kLdxrStlxr},
    {Access::kReadModifyWrite, Order::kAcqRel,   kLock,      kLdaxrStlxr,   kAmoAl,    kLdaxrStlxr},
    {Access::kReadModifyWrite, Order::kSeqCst,   kLock,      kLdaxrStlxr,   kAmoAl,    kLdaxrStlxr},
    {Access::kReadModifyWrite, Order::kGccSync,  kLock,      kLdxrStlxrDmb, kAmoAl,    kLdxrStlxrDmb},
    {Access::kFence,           Order::kAcquire,  kNothing,   kDmbIshld,     kDmbIshld, kDmbIshld},
    {Access::kFence,           Order::kRelease,  kNothing,   kDmbIsh,       kDmbIsh,   kDmbIsh},
    {Access::kFence,           Order::kAcqRel,   kNothing,   kDmbIsh,       kDmbIsh,   kDmbIsh},
    {Access::kFence,           Order::kSeqCst,   kMfence,    kDmbIsh,       kDmbIsh,   kDmbIsh},
    {Access::kMbSet,           Order::kSeqCst,   kXchgStore, kStlrDmb,      kStlrDmb,  kStlrDmb},
};
// clang-format on

using Kind = Statement::Kind;

Access access_of(const Statement& statement) {
  switch (statement.kind) {
    case Kind::kLoad:
      return Access::kLoad;
    case Kind::kStore:
    case Kind::kUnlock:
      return Access::kStore;
    case Kind::kFence:
      return Access::kFence;
    case Kind::kMbSet:
      return Access::kMbSet;
    default:
      return Access::kReadModifyWrite;
  }
}

Code code_of(Model model, Access access, Order order) {
  if (order == Order::kPlain) order = Order::kRelaxed;
  for (const Row& row : kTable) {
    if (row.access != access || row.order != order) continue;
    switch (model) {
      case Model::kX86Tso:
        return row.x86;
      case Model::kArmv8LlSc:
        return row.arm_llsc;
      case Model::kArmv8Lse:
        return row.arm_lse;
      default:
        return row.arm_rcpc;
    }
  }
  // A fence that is relaxed.
  assert(access == Access::kFence);
  return kNothing;
}

/// One of LSE's instructions or of x86's LOCKed ones; ARMv8's lack a suffix for the order.
std::string one_instruction(Kind kind, Model model) {
  const bool is_x86 = model == Model::kX86Tso;
  switch (kind) {
    case Kind::kExchange:
    case Kind::kLock:
      return is_x86 ? "xchg" : "swp";
    case Kind::kFetchAdd:
    case Kind::kFetchSub:
      return is_x86 ? "lock xadd" : "ldadd";
    case Kind::kFetchOr:
      return is_x86 ? "lock or" : "ldset";
    case Kind::kFetchAnd:
      return is_x86 ? "lock and" : "ldclr";
    case Kind::kFetchXor:
      return is_x86 ? "lock xor" : "ldeor";
    default:
      return is_x86 ? "lock cmpxchg" : "cas";
  }
}

Recipe reading(Tags tags, std::string instruction) {
  Recipe recipe;
  recipe.read = tags;
  recipe.read_instruction = std::move(instruction);
  return recipe;
}

Recipe writing(Tags tags, std::string instruction) {
  Recipe recipe;
  recipe.write = tags;
  recipe.write_instruction = std::move(instruction);
  return recipe;
}

Recipe fencing(Tags tags, std::string instruction) {
  Recipe recipe;
  recipe.has_fence = true;
  recipe.fence = tags;
  recipe.fence_instruction = std::move(instruction);
  return recipe;
}

Recipe with_fence(Recipe recipe, Tags tags, std::string instruction) {
  recipe.has_fence = true;
  recipe.fence = tags;
  recipe.fence_instruction = std::move(instruction);
  return recipe;
}

Recipe exclusive_pair(Tags read, Tags write, Kind kind) {
  Recipe recipe;
  recipe.read = read;
  recipe.write = write;
  recipe.branches_on_read = kind == Kind::kCompareExchange || kind == Kind::kLock;
  recipe.read_instruction = read == 0 ? "ldxr" : "ldaxr";
  recipe.write_instruction = write == 0 ? "stxr" : "stlxr";
  return recipe;
}

Recipe one_instruction_recipe(Tags read, Tags write, const std::string& instruction) {
  Recipe recipe;
  recipe.read = static_cast<Tags>(read | kOneInstruction);
  recipe.write = static_cast<Tags>(write | kOneInstruction);
  recipe.read_instruction = instruction;
  recipe.write_instruction = instruction;
  return recipe;
}

/// Compilers choose one instruction for both outcomes of a compare-exchange; a failure order beyond
/// the success order strengthens it.
Order order_of(const Statement& statement) {
  const bool fails_with_acquire =
      statement.kind == Kind::kCompareExchange &&
      (statement.failure_order == Order::kAcquire || statement.failure_order == Order::kSeqCst);
  if (fails_with_acquire && statement.order == Order::kRelaxed) return Order::kAcquire;
  if (fails_with_acquire && statement.order == Order::kRelease) return Order::kAcqRel;
  return statement.order;
}

Recipe hardware_recipe(Model model, const Statement& statement) {
  const Kind kind = statement.kind;
  const std::string one = one_instruction(kind, model);
  switch (code_of(model, access_of(statement), order_of(statement))) {
    case kNothing:
      return {};
    case kMov: {
      Recipe recipe;
      recipe.read_instruction = recipe.write_instruction = "mov";
      return recipe;
    }
    case kXchgStore:
      // What it reads is thrown away, so all that is left of it is a store and a fence.
      return with_fence(writing(0, "xchg"), kFullFence, "");
    case kLock:
      return one_instruction_recipe(kLocked, kLocked, one);
    case kMfence:
      return fencing(kFullFence, "mfence");
    case kLdr:
      return reading(0, "ldr");
    case kLdar:
      return reading(kAcquire, "ldar");
    case kLdapr:
      return reading(kAcquirePc, "ldapr");
    case kStr:
      return writing(0, "str");
    case kStlr:
      return writing(kRelease, "stlr");
    case kStlrDmb:
      return with_fence(writing(kRelease, "stlr"), kFullFence, "dmb ish");
    case kLdxrStxr:
      return exclusive_pair(0, 0, kind);
    case kLdaxrStxr:
      return exclusive_pair(kAcquire, 0, kind);
    case kLdxrStlxr:
      return exclusive_pair(0, kRelease, kind);
    case kLdaxrStlxr:
      return exclusive_pair(kAcquire, kRelease, kind);
    case kLdxrStlxrDmb:
      return with_fence(exclusive_pair(0, kRelease, kind), kFullFence, "dmb ish");
    case kAmo:
      return one_instruction_recipe(0, 0, one);
    case kAmoA:
      return one_instruction_recipe(kAcquire, 0, one + "a");
    case kAmoL:
      return one_instruction_recipe(0, kRelease, one + "l");
    case kAmoAl:
      return one_instruction_recipe(kAcquire, kRelease, one + "al");
    case kDmbIshld:
      return fencing(kLoadFence, "dmb ishld");
    case kDmbIsh:
      return fencing(kFullFence, "dmb ish");
  }
  return {};
}

constexpr Tags tags_of(Order order) {
  switch (order) {
    case Order::kPlain:
      return kNotAtomic;
    case Order::kRelaxed:
      return 0;
    case Order::kAcquire:
      return kAcquire;
    case Order::kRelease:
      return kRelease;
    case Order::kAcqRel:
      return kAcquire | kRelease;
    case Order::kSeqCst:
    case Order::kGccSync:
      return kAcquire | kRelease | kSeqCst;
  }
  return 0;
}

std::string_view name_of(Order order) {
  constexpr std::array<std::string_view, 7> kNames = {"plain",   "relaxed", "acquire", "release",
                                                      "acq_rel", "seq_cst", "seq_cst"};
  return kNames[static_cast<size_t>(order)];
}

/// SC and C++ look at the operations themselves.
Recipe source_recipe(const Statement& statement, Order order) {
  constexpr Tags kReadTags = kAcquire | kSeqCst | kNotAtomic;
  constexpr Tags kWriteTags = kRelease | kSeqCst | kNotAtomic;
  constexpr Tags kFenceTags = kAcquire | kRelease | kSeqCst;
  const std::string text(name_of(order));
  Recipe recipe;
  recipe.read_instruction = "load " + text;
  recipe.write_instruction = "store " + text;
  recipe.read = static_cast<Tags>(tags_of(order) & kReadTags);
  recipe.write = static_cast<Tags>(tags_of(order) & kWriteTags);
  switch (access_of(statement)) {
    case Access::kLoad:
    case Access::kStore:
      return recipe;
    case Access::kFence:
      return fencing(static_cast<Tags>(tags_of(order) & kFenceTags), "fence " + text);
    case Access::kMbSet:
      return with_fence(writing(kRelease, "store release"), kFenceTags, "fence seq_cst");
    case Access::kReadModifyWrite:
      break;
  }
  recipe.read |= kOneInstruction;
  recipe.write |= kOneInstruction;
  recipe.read_instruction = recipe.write_instruction = "rmw " + text;
  // A fence behind it is the least that GCC's documentation and its code both promise.
  if (order == Order::kGccSync) return with_fence(recipe, kFenceTags, "fence seq_cst");
  return recipe;
}

bool is_hardware(Model model) { return model != Model::kSc && model != Model::kCpp20; }

}  // namespace

Recipe recipe(Model model, const Statement& statement) {
  return is_hardware(model) ? hardware_recipe(model, statement)
                            : source_recipe(statement, statement.order);
}

Recipe failure_recipe(Model model, const Statement& statement) {
  if (is_hardware(model)) return hardware_recipe(model, statement);
  return source_recipe(statement, statement.failure_order);
}

}  // namespace imgconv::memory_model
