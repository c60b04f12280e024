#include "engine/option_pieces.h"

namespace imgconv {
namespace {

/// Length of the piece at the begin of `text`: up to a comma that is not doubled.
size_t piece_length(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (text[at] != ',') {
      ++at;
    } else if (at + 1 < text.size() && text[at + 1] == ',') {
      at += 2;
    } else {
      break;
    }
  }
  return at;
}

std::string undouble_commas(std::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size(); ++at) {
    result += text[at];
    if (text[at] == ',') ++at;
  }
  return result;
}

}  // namespace

std::vector<OptionPiece> split_option_pieces(std::string_view text) {
  std::vector<OptionPiece> pieces;
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, piece_length(text));
    const size_t equals = piece.find('=');
    const bool has_value = equals != std::string_view::npos;
    pieces.push_back({std::string(piece.substr(0, equals)),
                      has_value ? undouble_commas(piece.substr(equals + 1)) : "on", piece});
    text.remove_prefix(piece.size());
    if (!text.empty()) text.remove_prefix(1);
  }
  return pieces;
}

std::string without_option(std::string_view text, std::string_view name) {
  std::string kept;
  for (const OptionPiece& piece : split_option_pieces(text)) {
    if (piece.name == name) continue;
    if (!kept.empty()) kept += ',';
    kept += piece.text;
  }
  return kept;
}

}  // namespace imgconv
