// The classic litmus shapes, with their published verdicts under each memory model; and the
// shorthand that they are written in.
//
// Verdicts are from the papers that the models are from and from the tests of herd (J. Alglave et
// al., "Herding cats", TOPLAS 2014; C. Pulte et al., POPL 2018; O. Lahav et al., PLDI 2017).
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace imgconv::test {

struct Shape {
  std::string_view name;
  /// One a thread, operations separated by ';': "W x 1 rlx; F sc; R r0 y rlx". W: store, R: load,
  /// X: exchange, A: fetch_add, C: compare_exchange ("C r0 x OLD NEW order"), F: fence; orders rlx,
  /// acq, rel, ar, sc. What begins otherwise is C as it stands.
  std::vector<std::string_view> threads;
  std::string_view condition;
  /// Who allows it, by letter: S(C), X(86-TSO), L(L/SC), (LS)E, R(Cpc), C(++20); else a dot.
  std::string_view allowed;
};

std::span<const Shape> classic_shapes();

/// The litmus test in full.
std::string to_litmus(const Shape& shape);

/// Which models allow the condition of a litmus test, written as in Shape::allowed.
std::string allowed_by(std::string_view litmus);

}  // namespace imgconv::test
