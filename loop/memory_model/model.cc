#include "loop/memory_model/model.h"

namespace imgconv::memory_model {

std::string_view name(Model model) {
  switch (model) {
    case Model::kSc:
      return "sc";
    case Model::kX86Tso:
      return "x86-tso";
    case Model::kArmv8LlSc:
      return "armv8-llsc";
    case Model::kArmv8Lse:
      return "armv8-lse";
    case Model::kArmv8Rcpc:
      return "armv8-rcpc";
    case Model::kCpp20:
      return "c++20";
  }
  return {};
}

std::optional<Model> find_model(std::string_view name_of_model) {
  for (const Model model : kAllModels) {
    if (name(model) == name_of_model) return model;
  }
  return std::nullopt;
}

}  // namespace imgconv::memory_model
