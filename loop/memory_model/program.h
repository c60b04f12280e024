// Program: a concurrent program of the size of a wake-up protocol, as data: two to four threads of
// loads, stores, read-modify-writes and fences over a few shared words, and a question about how it
// ends. Made by parse_litmus(), looked at by explore().
//
// Not a language: no loops, no calls, all values are integers of 64 bits that wrap. Plain data; any
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace imgconv::memory_model {

/// Index into Program::locations, or Thread::registers.
using LocationId = uint32_t;
using RegisterId = uint32_t;

enum class Order : uint8_t {
  kPlain,  ///< Not atomic: compiled as relaxed; two that conflict are a race in C++.
  kRelaxed,
  kAcquire,
  kRelease,
  kAcqRel,
  kSeqCst,
  kGccSync,  ///< The __sync builtins of GCC.
};

/// A tree over constants and registers of one thread.
struct Expression {
  enum class Kind : uint8_t {
    kConstant,
    kRegister,
    kAdd,
    kSubtract,
    kBitAnd,
    kBitOr,
    kBitXor,
    kEqual,
    kNotEqual,
    kLess,
    kLessEqual,
    kLogicalAnd,  ///< Both operands are evaluated; they have no effects.
    kLogicalOr,
    kLogicalNot,
  };

  static Expression constant(int64_t value) { return {Kind::kConstant, value, {}}; }
  static Expression of_register(RegisterId id) { return {Kind::kRegister, id, {}}; }

  Kind kind = Kind::kConstant;
  /// The constant, or the register's number.
  int64_t value = 0;
  /// Two, or one for kLogicalNot.
  std::vector<Expression> operands;
};

struct Statement {
  enum class Kind : uint8_t {
    kLoad,      ///< result = *location
    kStore,     ///< *location = operand
    kExchange,  ///< result = *location; *location = operand
    kFetchAdd,  ///< result = *location; *location += operand; likewise the next four
    kFetchSub,
    kFetchOr,
    kFetchAnd,
    kFetchXor,
    kCompareExchange,  ///< result = *location; success = result == expected; if so, = operand
    kFence,
    kMbSet,   ///< QEMU's atomic_mb_set: exchange on x86, elsewhere store-release and full fence.
    kLock,    ///< exchange(1, acquire); executions in which it does not read 0 are left out.
    kUnlock,  ///< store(0, release)
    kAssign,  ///< result = operand
    kIf,      ///< operand != 0 ? then_branch : else_branch
  };

  Kind kind = Kind::kFence;
  Order order = Order::kSeqCst;
  /// Of a compare-exchange that fails: it only loads.
  Order failure_order = Order::kSeqCst;
  LocationId location = 0;
  /// Added to the address: 0 in every execution, there to make an address dependency. Else the
  /// program is refused.
  Expression index;
  Expression operand;
  Expression expected;
  std::optional<RegisterId> result;
  std::optional<RegisterId> success;
  std::vector<Statement> then_branch;
  std::vector<Statement> else_branch;
  /// Where it stands in the source, and its number in the thread; both from 1.
  uint32_t line = 0;
  uint32_t position = 0;
};

struct Thread {
  /// As conditions name it: "P0".
  std::string name;
  std::vector<std::string> registers;
  std::vector<Statement> body;
};

struct Location {
  std::string name;
  int64_t initial = 0;
};

/// A proposition over the registers and the memory of a finished execution.
struct Condition {
  enum class Kind : uint8_t { kTrue, kRegisterEquals, kLocationEquals, kAnd, kOr, kNot };

  Kind kind = Kind::kTrue;
  /// Index into Program::threads, of a kRegisterEquals.
  uint32_t thread = 0;
  /// RegisterId or LocationId.
  uint32_t subject = 0;
  int64_t value = 0;
  std::vector<Condition> operands;
};

enum class Quantifier : uint8_t {
  kExists,     ///< Some execution ends so.
  kNotExists,  ///< None does.
  kForAll,     ///< All do.
};

struct Program {
  std::string name;
  std::vector<Location> locations;
  std::vector<Thread> threads;
  Quantifier quantifier = Quantifier::kExists;
  Condition condition;
  /// The proposition in the source's own words.
  std::string condition_text;
};

}  // namespace imgconv::memory_model
