// What parse_litmus() accepts, and what it says about the rest.
#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <random>
#include <string>

#include "loop/history/case_file.h"
#include "loop/memory_model/litmus.h"

namespace imgconv {
namespace {

using memory_model::Order;
using memory_model::Program;
using memory_model::Quantifier;
using memory_model::Statement;

std::string failure(std::string_view litmus) {
  const Result<Program> program = memory_model::parse_litmus(litmus);
  return program ? "none" : program.error().text();
}

/// A test whose thread P0 is `body`.
std::string thread(std::string_view body) {
  return fmt::format(
      "C name\n{{ x=0; y=0; }}\nP0 (atomic_int* x, int* y) {{\n{}\n}}\nexists (x=0)\n", body);
}

}  // namespace

TEST_CASE("Litmus: herd's forms of head, state, comments and condition are understood",
          "[loop][memory_model]") {
  const Program program = memory_model::parse_litmus(R"(C 2+2W+x
"a description: Wse PodWW"
Cycle=Wse PodWW
{ [x] = 1; int y = -2; atomic_int z; int* w; v; } (* a comment *)
P0 (volatile atomic_int* x, int * restrict y) { // another
  int r0, r1 = 0x10; /* and a third */
  r0 = atomic_load(x);
}
P1 (atomic_int *x) {}
locations [x; 0:r0;]
exists (0:r0=1 /\ (x=1 \/ ~([y]=-2)) /\ not (0:r1==16))
)")
                              .value();
  CHECK(program.name == "2+2W+x");
  REQUIRE(program.locations.size() == 5);
  CHECK(program.locations[0].initial == 1);
  CHECK(program.locations[1].initial == -2);
  REQUIRE(program.threads.size() == 2);
  CHECK(program.threads[0].registers == std::vector<std::string>{"r0", "r1"});
  CHECK(program.threads[0].body.size() == 2);
  CHECK(program.quantifier == Quantifier::kExists);
  CHECK(program.condition_text == "(0:r0=1 /\\ (x=1 \\/ ~([y]=-2)) /\\ not (0:r1==16))");
}

TEST_CASE("Litmus: an operation's order is the one that is written, or C's default",
          "[loop][memory_model]") {
  const Program program = memory_model::parse_litmus(thread(R"(
  int r0 = atomic_fetch_add_explicit(x, 1, memory_order_acq_rel);
  int r1 = atomic_fetch_add(x, 1);
  int r2 = __sync_fetch_and_add(x, 1);
  int r3 = *x;
  int r4 = *y;
  smp_rmb();
  atomic_compare_exchange_strong_explicit(x, &r0, 1, memory_order_release, memory_order_relaxed);
)"))
                              .value();
  const std::vector<Statement>& body = program.threads[0].body;
  REQUIRE(body.size() == 7);
  CHECK(body[0].order == Order::kAcqRel);
  CHECK(body[1].order == Order::kSeqCst);
  CHECK(body[2].order == Order::kGccSync);
  CHECK(body[3].order == Order::kSeqCst);
  CHECK(body[4].order == Order::kPlain);
  CHECK(body[5].order == Order::kAcquire);
  CHECK(body[6].order == Order::kRelease);
  CHECK(body[6].failure_order == Order::kRelaxed);
  CHECK(body[6].line == 11);
}

TEST_CASE("Litmus: an operation inside an expression comes before it", "[loop][memory_model]") {
  const Program program =
      memory_model::parse_litmus(thread("if (atomic_load(x) == 1) *y = (*x) + 1;")).value();
  const std::vector<Statement>& body = program.threads[0].body;
  REQUIRE(body.size() == 2);
  CHECK(body[0].kind == Statement::Kind::kLoad);
  CHECK(body[1].kind == Statement::Kind::kIf);
  CHECK(body[1].then_branch.size() == 2);
}

TEST_CASE("Litmus: errors name the line and what is wrong", "[loop][memory_model]") {
  CHECK(failure("") == "line 1: expected 'C NAME', the head of a litmus test in C");
  CHECK(failure("AArch64 MP\n{}\n") == "line 1: expected 'C NAME', the head of a litmus test in C");
  CHECK(failure("C x") == "line 1: expected '{' but the text ends");
  CHECK(failure("C x\n{ x=y; }") == "line 2: expected a number but found 'y'");
  CHECK(failure("C x\n{ 0:r0=1; }") ==
        "line 2: variables of a thread start at 0 and cannot be set here");
  CHECK(failure("C x\n{}\nexists (x=0)") == "line 3: expected 'P0 (' but found 'exists'");
  CHECK(failure("C x\n{}\nP1 () {}") == "line 3: expected 'P0' but found 'P1'");
  CHECK(failure("C x\n{}\nP0 (int x) {}") ==
        "line 3: expected a parameter such as 'atomic_int* x' but found ')'");
  CHECK(failure("C x\n{}\nP0 (int* x) {}\n") ==
        "line 4: expected 'exists', '~exists' or 'forall' but the text ends");
  CHECK(failure("C x\n{}\nP0 (int* x) {}\nexists (z=1)") == "line 4: 'z' is not a location");
  CHECK(failure("C x\n{}\nP0 (int* x) {}\nexists (1:r0=1)") == "line 4: there is no thread 1");
  CHECK(failure("C x\n{}\nP0 (int* x) {}\nexists (0:r0=1)") == "line 4: P0 has no variable 'r0'");
  CHECK(failure("C x\n{}\nP0 (int* x) {}\nexists (x=1) 7") ==
        "line 4: expected the end but found '7'");

  CHECK(failure(thread("r0 = 1;")) == "line 4: 'r0' is not declared");
  CHECK(failure(thread("int r0 = x;")) == "line 4: 'x' is an address; its value is read by *x");
  CHECK(failure(thread("int r0 = r1;")) == "line 4: 'r1' is not declared");
  CHECK(failure(thread("int x = 1;")) == "line 4: 'x' is a location");
  CHECK(failure(thread("while (1) {}")) == "line 4: loops are beyond this explorer");
  CHECK(failure(thread("f(x);")) == "line 4: unknown function 'f'");
  CHECK(failure(thread("mtx_lock_explicit(x);")) == "line 4: unknown function 'mtx_lock_explicit'");
  CHECK(failure(thread("atomic_store_explicit(x, 1, memory_order_strong);")) ==
        "line 4: expected a memory order but found 'memory_order_strong'");
  CHECK(failure(thread("int r0 = atomic_load_explicit(x, memory_order_release);")) ==
        "line 4: a load cannot release");
  CHECK(failure(thread("atomic_store_explicit(x, 1, memory_order_acquire);")) ==
        "line 4: a store cannot acquire");
  CHECK(failure(thread("int r0; atomic_compare_exchange_strong_explicit(x, &r0, 1, "
                       "memory_order_seq_cst, memory_order_release);")) ==
        "line 4: a compare-exchange that fails cannot release");
  CHECK(failure(thread("atomic_compare_exchange_strong(x, &r0, 1);")) ==
        "line 4: 'r0' is not a variable of this thread");
  CHECK(failure(thread("int r0 = 1 && atomic_load(x);")) ==
        "line 4: an operation on memory behind '&&'");
  CHECK(failure(thread("int r0 = smp_mb();")) == "line 4: that has no value");
  CHECK(failure(thread("*z = 1;")) == "line 4: 'z' is not a location");
  CHECK(failure(thread("*x = 99999999999999999999;")) ==
        "line 4: '99999999999999999999' is not a number of 64 bits");
  CHECK(failure(thread("*x = 1")) == "line 5: expected ';' but found '}'");
  CHECK(failure(thread("*x = $;")) == "line 4: unexpected character '$'");
  CHECK(failure(thread("*x = \xff;")) == "line 4: unexpected byte 0xff");
  CHECK(failure(thread("(* no end")) == "line 4: a comment does not end");
  CHECK(failure(thread("\" no end")) == "line 4: a string does not end");
}

TEST_CASE("Litmus: size, nesting, threads and statements are bounded", "[loop][memory_model]") {
  CHECK(failure(std::string(65537, ' ')) == "a litmus test of more than 65536 bytes");
  struct Nesting {
    std::string_view begin;
    std::string_view opening;
  };
  for (const Nesting nesting : {Nesting{"", "{"}, Nesting{"", "if (1) "}, Nesting{"*x = ", "("},
                                Nesting{"*x = ", "!"}, Nesting{"*x = ", "-"}, Nesting{"*", "("}}) {
    std::string body(nesting.begin);
    for (int i = 0; i < 5000; ++i) body += nesting.opening;
    INFO(nesting.begin << nesting.opening);
    CHECK(failure(thread(body)) == "line 4: nested too deeply");
  }
  for (const std::string_view opening : {"(", "~"}) {
    std::string condition;
    for (int i = 0; i < 5000; ++i) condition += opening;
    CHECK(failure("C x\n{}\nP0 (int* x) {}\nexists " + condition) == "line 4: nested too deeply");
  }
  std::string stores;
  for (int i = 0; i < 65; ++i) stores += "*x = 1;";
  CHECK(failure(thread(stores)) == "line 4: P0 has more than 64 statements");
  std::string variables = "int a0";
  for (int i = 1; i < 70; ++i) variables += fmt::format(", a{}", i);
  CHECK(failure(thread(variables + ";")) == "line 4: too many variables");
  std::string threads = "C x\n{}\n";
  for (int i = 0; i < 5; ++i) threads += fmt::format("P{} (int* x) {{}}\n", i);
  CHECK(failure(threads) == "line 7: more than 4 threads");
  std::string locations = "C x\n{";
  for (int i = 0; i < 20; ++i) locations += fmt::format(" x{};", i);
  CHECK(failure(locations + "}") == "line 2: more than 16 locations");
}

TEST_CASE("Litmus: damaged tests give a program or an error", "[loop][memory_model]") {
  std::mt19937 random(1805256);
  constexpr std::string_view kBytes = "{}()[];,:=+-&|^!~*<>/\\\"0x9rP aC\n\xff";
  for (const history::Case& variant : history::case_file()) {
    for (int round = 0; round < 15; ++round) {
      std::string text(variant.litmus);
      for (int i = 0; i < 3; ++i) {
        const size_t at = random() % text.size();
        if (random() % 2 == 0) {
          text[at] = kBytes[random() % kBytes.size()];
        } else {
          text.erase(at, random() % 9);
        }
      }
      const Result<Program> program = memory_model::parse_litmus(text);
      if (!program) CHECK_FALSE(program.error().text().empty());
    }
    for (size_t size = 0; size < variant.litmus.size() - 2; size += 5) {
      CHECK_FALSE(memory_model::parse_litmus(variant.litmus.substr(0, size)).has_value());
    }
  }
}

}  // namespace imgconv
