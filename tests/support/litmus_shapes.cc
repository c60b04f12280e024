#include "tests/support/litmus_shapes.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <sstream>

#include "loop/memory_model/explore.h"
#include "loop/memory_model/litmus.h"

namespace imgconv::test {
namespace {

// clang-format off
const Shape kShapes[] = {
    // Store buffering: the shape of every lost wake-up.
    {"SB", {"W x 1 rlx; R r0 y rlx", "W y 1 rlx; R r0 x rlx"}, "0:r0=0 /\\ 1:r0=0", ".XLERC"},
    {"SB+fence+po", {"W x 1 rlx; F sc; R r0 y rlx", "W y 1 rlx; R r0 x rlx"}, "0:r0=0 /\\ 1:r0=0", ".XLERC"},
    {"SB+fences", {"W x 1 rlx; F sc; R r0 y rlx", "W y 1 rlx; F sc; R r0 x rlx"}, "0:r0=0 /\\ 1:r0=0", "......"},
    {"SB+acq-rel-fences", {"W x 1 rlx; F ar; R r0 y rlx", "W y 1 rlx; F ar; R r0 x rlx"}, "0:r0=0 /\\ 1:r0=0", ".X...C"},
    {"SB+rel-acq", {"W x 1 rel; R r0 y acq", "W y 1 rel; R r0 x acq"}, "0:r0=0 /\\ 1:r0=0", ".X..RC"},
    {"SB+sc", {"W x 1 sc; R r0 y sc", "W y 1 sc; R r0 x sc"}, "0:r0=0 /\\ 1:r0=0", "......"},
    {"SB+sc-rlx", {"W x 1 sc; R r0 y rlx", "W y 1 sc; R r0 x rlx"}, "0:r0=0 /\\ 1:r0=0", "..LERC"},
    {"SB+rmw-sc", {"X r1 x 1 sc; R r0 y rlx", "X r1 y 1 sc; R r0 x rlx"}, "0:r0=0 /\\ 1:r0=0", "..L.RC"},
    {"SB+rmw-sc-acq", {"X r1 x 1 sc; R r0 y acq", "X r1 y 1 sc; R r0 x acq"}, "0:r0=0 /\\ 1:r0=0", "....RC"},
    {"SB+rmw-acq", {"X r1 x 1 acq; R r0 y rlx", "X r1 y 1 acq; R r0 x rlx"}, "0:r0=0 /\\ 1:r0=0", "..LERC"},
    {"SB+gcc-sync", {"int r1 = __sync_fetch_and_or(x, 1); R r0 y rlx", "int r1 = __sync_fetch_and_or(y, 1); R r0 x rlx"}, "0:r0=0 /\\ 1:r0=0", "......"},
    {"SB+mb-set", {"atomic_mb_set(x, 1); R r0 y rlx", "atomic_mb_set(y, 1); R r0 x rlx"}, "0:r0=0 /\\ 1:r0=0", "......"},
    {"SB+store-locked-load", {"W x 1 rlx; C r0 y 5 6 sc", "W y 1 rlx; F sc; R r0 x rlx"}, "0:r0=0 /\\ 1:r0=0", "..LERC"},

    // Message passing.
    {"MP", {"W x 1 rlx; W y 1 rlx", "R r0 y rlx; R r1 x rlx"}, "1:r0=1 /\\ 1:r1=0", "..LERC"},
    {"MP+rel+po", {"W x 1 rlx; W y 1 rel", "R r0 y rlx; R r1 x rlx"}, "1:r0=1 /\\ 1:r1=0", "..LERC"},
    {"MP+po+acq", {"W x 1 rlx; W y 1 rlx", "R r0 y acq; R r1 x rlx"}, "1:r0=1 /\\ 1:r1=0", "..LERC"},
    {"MP+rel+acq", {"W x 1 rlx; W y 1 rel", "R r0 y acq; R r1 x rlx"}, "1:r0=1 /\\ 1:r1=0", "......"},
    {"MP+rel-fence+acq", {"W x 1 rlx; F rel; W y 1 rlx", "R r0 y acq; R r1 x rlx"}, "1:r0=1 /\\ 1:r1=0", "......"},
    {"MP+rel+acq-fence", {"W x 1 rlx; W y 1 rel", "R r0 y rlx; F acq; R r1 x rlx"}, "1:r0=1 /\\ 1:r1=0", "......"},
    {"MP+fences", {"W x 1 rlx; F sc; W y 1 rlx", "R r0 y rlx; F sc; R r1 x rlx"}, "1:r0=1 /\\ 1:r1=0", "......"},
    {"MP+fence+addr", {"W x 1 rlx; F sc; W y 1 rlx", "R r0 y rlx; R r1 x+(r0^r0) rlx"}, "1:r0=1 /\\ 1:r1=0", ".....C"},
    {"MP+fence+ctrl", {"W x 1 rlx; F sc; W y 1 rlx", "R r0 y rlx; int r1; if (r0 == 1) { r1 = atomic_load_explicit(x, memory_order_relaxed); } else { r1 = 7; }"}, "1:r0=1 /\\ 1:r1=0", "..LERC"},
    {"MP+fence+data-rfi-addr", {"W x 1 rlx; F sc; W y 1 rlx", "R r0 y rlx; W z r0 rlx; R r2 z rlx; R r1 x+(r2^r2) rlx"}, "1:r0=1 /\\ 1:r2=1 /\\ 1:r1=0", ".....C"},
    {"MP+fence+rmw-rfi-acq", {"W x 1 rlx; F sc; W y 1 rlx", "X r0 y 2 rlx; R r2 y acq; R r1 x rlx"}, "1:r0=1 /\\ 1:r2=2 /\\ 1:r1=0", "......"},
    {"MP+release-sequence", {"W x 1 rlx; W y 1 rel", "A r0 y 1 rlx", "R r0 y acq; R r1 x rlx"}, "2:r0=2 /\\ 2:r1=0", "......"},
    // A store of the same thread continues a release sequence no longer (P0982); ARMv8 does not mind.
    {"MP+rel-wsi+acq", {"W x 1 rlx; W y 1 rel; W y 2 rlx", "R r0 y acq; R r1 x rlx"}, "1:r0=2 /\\ 1:r1=0", ".....C"},

    // Load buffering. C++20 with RC11 forbids it in all forms.
    {"LB", {"R r0 x rlx; W y 1 rlx", "R r0 y rlx; W x 1 rlx"}, "0:r0=1 /\\ 1:r0=1", "..LER."},
    {"LB+data+po", {"R r0 x rlx; W y r0 rlx", "R r0 y rlx; W x 1 rlx"}, "0:r0=1 /\\ 1:r0=1", "..LER."},
    {"LB+datas", {"R r0 x rlx; W y r0+(1-r0) rlx", "R r0 y rlx; W x r0+(1-r0) rlx"}, "0:r0=1 /\\ 1:r0=1", "......"},
    {"LB+addrs", {"R r0 x rlx; W y+(r0^r0) 1 rlx", "R r0 y rlx; W x+(r0^r0) 1 rlx"}, "0:r0=1 /\\ 1:r0=1", "......"},
    {"LB+ctrls", {"R r0 x rlx; if (r0 == 1) atomic_store_explicit(y, 1, memory_order_relaxed)", "R r0 y rlx; if (r0 == r0) atomic_store_explicit(x, 1, memory_order_relaxed)"}, "0:r0=1 /\\ 1:r0=1", "......"},
    {"LB+addrpo+data", {"R r0 x rlx; R r1 z+(r0^r0) rlx; W y 1 rlx", "R r0 y rlx; W x r0 rlx"}, "0:r0=1 /\\ 1:r0=1", "......"},
    {"LB+data-wsi+data", {"R r0 x rlx; W y r0 rlx; W y 2 rlx", "R r0 y rlx; W x (r0^r0)+1 rlx"}, "0:r0=1 /\\ 1:r0=2", "......"},
    {"LB+acqs", {"R r0 x acq; W y 1 rlx", "R r0 y acq; W x 1 rlx"}, "0:r0=1 /\\ 1:r0=1", "......"},
    {"LB+rels", {"R r0 x rlx; W y 1 rel", "R r0 y rlx; W x 1 rel"}, "0:r0=1 /\\ 1:r0=1", "......"},
    {"LB+rmw", {"X r0 x 1 rlx", "R r0 x rlx; W y (r0^r0)+1 rlx", "R r0 y rlx; W x (r0^r0)+2 rlx"}, "0:r0=2 /\\ 1:r0=1 /\\ 2:r0=1", "......"},

    // A write against a write.
    {"S", {"W x 2 rlx; W y 1 rlx", "R r0 y rlx; W x 1 rlx"}, "1:r0=1 /\\ x=2", "..LERC"},
    {"S+rel+acq", {"W x 2 rlx; W y 1 rel", "R r0 y acq; W x 1 rlx"}, "1:r0=1 /\\ x=2", "......"},
    {"S+fence+data", {"W x 2 rlx; F sc; W y 1 rlx", "R r0 y rlx; W x r0 rlx"}, "1:r0=1 /\\ x=2", ".....C"},
    {"R", {"W x 1 rlx; W y 1 rlx", "W y 2 rlx; R r0 x rlx"}, "y=2 /\\ 1:r0=0", ".XLERC"},
    {"R+rel+rel-acq", {"W x 1 rlx; W y 1 rel", "W y 2 rel; R r0 x acq"}, "y=2 /\\ 1:r0=0", ".X..RC"},
    {"R+sc", {"W x 1 sc; W y 1 sc", "W y 2 sc; R r0 x sc"}, "y=2 /\\ 1:r0=0", "......"},
    {"R+fences", {"W x 1 rlx; F sc; W y 1 rlx", "W y 2 rlx; F sc; R r0 x rlx"}, "y=2 /\\ 1:r0=0", "......"},
    {"2+2W", {"W x 1 rlx; W y 2 rlx", "W y 1 rlx; W x 2 rlx"}, "x=1 /\\ y=1", "..LERC"},
    {"2+2W+rels", {"W x 1 rlx; W y 2 rel", "W y 1 rlx; W x 2 rel"}, "x=1 /\\ y=1", ".....C"},
    {"2+2W+sc", {"W x 1 sc; W y 2 sc", "W y 1 sc; W x 2 sc"}, "x=1 /\\ y=1", "......"},
    {"2+2W+fences", {"W x 1 rlx; F sc; W y 2 rlx", "W y 1 rlx; F sc; W x 2 rlx"}, "x=1 /\\ y=1", "......"},

    // Three and four threads. ARMv8 is multi-copy atomic, C++ is not.
    {"WRC", {"W x 1 rlx", "R r0 x rlx; W y 1 rlx", "R r0 y rlx; R r1 x rlx"}, "1:r0=1 /\\ 2:r0=1 /\\ 2:r1=0", "..LERC"},
    {"WRC+data+addr", {"W x 1 rlx", "R r0 x rlx; W y r0 rlx", "R r0 y rlx; R r1 x+(r0^r0) rlx"}, "1:r0=1 /\\ 2:r0=1 /\\ 2:r1=0", ".....C"},
    {"WRC+rel+acq", {"W x 1 rlx", "R r0 x rlx; W y 1 rel", "R r0 y acq; R r1 x rlx"}, "1:r0=1 /\\ 2:r0=1 /\\ 2:r1=0", "......"},
    {"ISA2", {"W x 1 rlx; W y 1 rlx", "R r0 y rlx; W z 1 rlx", "R r0 z rlx; R r1 x rlx"}, "1:r0=1 /\\ 2:r0=1 /\\ 2:r1=0", "..LERC"},
    {"ISA2+rel+acq-rel+acq", {"W x 1 rlx; W y 1 rel", "R r0 y acq; W z 1 rel", "R r0 z acq; R r1 x rlx"}, "1:r0=1 /\\ 2:r0=1 /\\ 2:r1=0", "......"},
    {"ISA2+fence+data+addr", {"W x 1 rlx; F sc; W y 1 rlx", "R r0 y rlx; W z r0 rlx", "R r0 z rlx; R r1 x+(r0^r0) rlx"}, "1:r0=1 /\\ 2:r0=1 /\\ 2:r1=0", ".....C"},
    {"IRIW", {"W x 1 rlx", "W y 1 rlx", "R r0 x rlx; R r1 y rlx", "R r0 y rlx; R r1 x rlx"}, "2:r0=1 /\\ 2:r1=0 /\\ 3:r0=1 /\\ 3:r1=0", "..LERC"},
    {"IRIW+addrs", {"W x 1 rlx", "W y 1 rlx", "R r0 x rlx; R r1 y+(r0^r0) rlx", "R r0 y rlx; R r1 x+(r0^r0) rlx"}, "2:r0=1 /\\ 2:r1=0 /\\ 3:r0=1 /\\ 3:r1=0", ".....C"},
    {"IRIW+rel+acq", {"W x 1 rel", "W y 1 rel", "R r0 x acq; R r1 y acq", "R r0 y acq; R r1 x acq"}, "2:r0=1 /\\ 2:r1=0 /\\ 3:r0=1 /\\ 3:r1=0", ".....C"},
    {"IRIW+sc", {"W x 1 sc", "W y 1 sc", "R r0 x sc; R r1 y sc", "R r0 y sc; R r1 x sc"}, "2:r0=1 /\\ 2:r1=0 /\\ 3:r0=1 /\\ 3:r1=0", "......"},
    {"IRIW+fences", {"W x 1 rlx", "W y 1 rlx", "R r0 x rlx; F sc; R r1 y rlx", "R r0 y rlx; F sc; R r1 x rlx"}, "2:r0=1 /\\ 2:r1=0 /\\ 3:r0=1 /\\ 3:r1=0", "......"},

    // One location: the same everywhere.
    {"CoRR", {"W x 1 rlx", "R r0 x rlx; R r1 x rlx"}, "1:r0=1 /\\ 1:r1=0", "......"},
    {"CoWW", {"W x 1 rlx; W x 2 rlx"}, "x=1", "......"},
    {"CoRW", {"R r0 x rlx; W x 1 rlx"}, "0:r0=1", "......"},
    {"CoRW2", {"R r0 x rlx; W x 1 rlx", "W x 2 rlx"}, "0:r0=2 /\\ x=2", "......"},
    {"CoWR", {"W x 1 rlx; R r0 x rlx", "W x 2 rlx"}, "0:r0=2 /\\ x=1", "......"},
    {"CoWR0", {"W x 1 rlx; R r0 x rlx"}, "0:r0=0", "......"},
    {"RMW+RMW", {"A r0 x 1 rlx", "A r0 x 1 rlx"}, "x=1", "......"},
    {"RMW+W", {"A r0 x 1 rlx", "W x 5 rlx"}, "0:r0=0 /\\ x=1", "......"},
    {"CAS+CAS", {"C r0 x 0 1 rlx", "C r0 x 0 2 rlx"}, "0:r0=0 /\\ 1:r0=0", "......"},
};
// clang-format on

std::string order(std::string_view shorthand) {
  if (shorthand == "rlx") return "memory_order_relaxed";
  if (shorthand == "acq") return "memory_order_acquire";
  if (shorthand == "rel") return "memory_order_release";
  if (shorthand == "ar") return "memory_order_acq_rel";
  return "memory_order_seq_cst";
}

std::string to_c(const std::string& operation) {
  std::istringstream words(operation);
  std::vector<std::string> w;
  for (std::string word; words >> word;) w.push_back(word);
  if (w[0] == "F") return fmt::format("atomic_thread_fence({});", order(w[1]));
  if (w[0] == "W")
    return fmt::format("atomic_store_explicit({}, {}, {});", w[1], w[2], order(w[3]));
  if (w[0] == "R")
    return fmt::format("int {} = atomic_load_explicit({}, {});", w[1], w[2], order(w[3]));
  if (w[0] == "X" || w[0] == "A") {
    return fmt::format("int {} = atomic_{}_explicit({}, {}, {});", w[1],
                       w[0] == "X" ? "exchange" : "fetch_add", w[2], w[3], order(w[4]));
  }
  if (w[0] == "C") {
    return fmt::format("int {} = {}; atomic_compare_exchange_strong_explicit({}, &{}, {}, {}, {});",
                       w[1], w[3], w[2], w[1], w[4], order(w[5]),
                       w[5] == "rlx" ? order("rlx") : order("sc"));
  }
  return operation + ";";
}

/// At the semicolons outside of braces.
std::vector<std::string> operations(std::string_view thread) {
  std::vector<std::string> result(1);
  int depth = 0;
  for (const char c : thread) {
    depth += c == '{' ? 1 : c == '}' ? -1 : 0;
    if (c == ';' && depth == 0) {
      result.emplace_back();
    } else {
      result.back() += c;
    }
  }
  return result;
}

}  // namespace

std::span<const Shape> classic_shapes() { return kShapes; }

std::string to_litmus(const Shape& shape) {
  std::string text = fmt::format("C {}\n{{ x=0; y=0; z=0; }}\n", shape.name);
  for (size_t i = 0; i < shape.threads.size(); ++i) {
    text += fmt::format("P{} (atomic_int* x, atomic_int* y, atomic_int* z) {{\n", i);
    for (const std::string& operation : operations(shape.threads[i])) {
      text += "  " + to_c(operation) + "\n";
    }
    text += "}\n";
  }
  return text + fmt::format("exists ({})\n", shape.condition);
}

std::string allowed_by(std::string_view litmus) {
  const Result<memory_model::Program> program = memory_model::parse_litmus(litmus);
  if (!program) return program.error().text();
  constexpr std::string_view kLetters = "SXLERC";
  std::string result;
  for (size_t i = 0; i < kLetters.size(); ++i) {
    const Result<memory_model::Exploration> exploration =
        memory_model::explore(*program, memory_model::kAllModels[i]);
    if (!exploration) return exploration.error().text();
    result += exploration->is_reachable ? kLetters[i] : '.';
  }
  return result;
}

}  // namespace imgconv::test
