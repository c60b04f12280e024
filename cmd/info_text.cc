#include "cmd/info_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <iterator>
#include <ranges>
#include <string_view>
#include <variant>

#include "cmd/human_size.h"
#include "cmd/json_writer.h"

namespace imgconv {

namespace {

constexpr size_t kIndent = 4;

std::string local_date(uint32_t seconds_since_1970) {
  const std::time_t time = seconds_since_1970;
  std::tm fields = {};
  localtime_r(&time, &fields);
  std::array<char, 32> text = {};
  const size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &fields);
  return {text.data(), length};
}

std::string vm_clock(uint64_t nanoseconds) {
  const uint64_t milliseconds = nanoseconds / 1'000'000;
  const uint64_t seconds = milliseconds / 1000;
  return fmt::format("{:04}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60,
                     milliseconds % 1000);
}

/// By bytes, as printf counts; fmt counts columns, which are others outside of ASCII.
std::string padded_right(std::string_view text, size_t width) {
  std::string padded(text);
  padded.resize(std::max(width, padded.size()), ' ');
  return padded;
}

std::string snapshot_row(std::string_view id, std::string_view tag, std::string_view size,
                         std::string_view date, std::string_view clock, std::string_view icount) {
  return fmt::format("{} {} {:>8} {:>19} {:>15} {:>10}\n", padded_right(id, 7),
                     padded_right(tag, 16), size, date, clock, icount);
}

bool is_composite(const InfoValue& value) {
  return std::holds_alternative<InfoValue::Array>(value.value) ||
         std::holds_alternative<InfoValue::Object>(value.value);
}

class TreeWriter {
 public:
  explicit TreeWriter(std::string& text) : text_(text) {}

  /// The members of a composite value, each on lines of its own.
  void write_members(const InfoValue& value, size_t depth) {
    if (const auto* object = std::get_if<InfoValue::Object>(&value.value)) {
      for (const InfoValue::Member* member : in_qemu_order(*object)) {
        std::string label = member->first;
        std::replace(label.begin(), label.end(), '-', ' ');
        write_member(label, member->second, depth);
      }
    } else if (const auto* array = std::get_if<InfoValue::Array>(&value.value)) {
      for (size_t i = 0; i < array->size(); ++i) {
        write_member(fmt::format("[{}]", i), (*array)[i], depth);
      }
    }
  }

 private:
  void write_member(std::string_view label, const InfoValue& value, size_t depth) {
    text_.append(depth * kIndent, ' ');
    text_ += label;
    text_ += ':';
    if (is_composite(value)) {
      text_ += '\n';
      write_members(value, depth + 1);
      return;
    }
    text_ += ' ';
    std::visit([this](const auto& scalar) { write_scalar(scalar); }, value.value);
    text_ += '\n';
  }

  template <class T>
  void write_scalar(const T& scalar) {
    if constexpr (!std::is_same_v<T, InfoValue::Array> && !std::is_same_v<T, InfoValue::Object>) {
      fmt::format_to(std::back_inserter(text_), "{}", scalar);
    }
  }

  std::string& text_;
};

void append_backing(std::string& text, const ImageFacts& facts) {
  const ImageInfo& image = facts.image;
  if (image.backing_file.empty()) return;
  text += fmt::format("backing file: {}", image.backing_file);
  if (!facts.full_backing_filename) {
    text += " (cannot determine actual path)";
  } else if (*facts.full_backing_filename != image.backing_file) {
    text += fmt::format(" (actual path: {})", *facts.full_backing_filename);
  }
  text += '\n';
  if (!image.backing_format.empty()) {
    text += fmt::format("backing file format: {}\n", image.backing_format);
  }
}

void append_file_specific(std::string& text, const FileFacts& file, size_t depth) {
  if (file.extent_size_hint == 0) return;
  const std::string indent(4 * depth, ' ');
  text += fmt::format("{0}Format specific information:\n{0}    extent size hint: {1}\n", indent,
                      file.extent_size_hint);
}

void append_nodes_below(std::string& text, const ImageFacts& facts) {
  const FileFacts& file = facts.file;
  std::string place;
  std::string indent;
  for (const PartFacts& part : facts.parts | std::views::reverse) {
    place += "/file";
    text += fmt::format(
        "{0}Child node '{1}':\n{0}    image: {2}\n{0}    file format: raw\n"
        "{0}    virtual size: {3} ({4} bytes)\n{0}    disk size: {5}\n",
        indent, place, part.filename, human_size(part.length), part.length,
        human_size(file.allocated));
    indent.append(kIndent, ' ');
  }
  text += fmt::format(
      "{0}Child node '{1}/file':\n{0}    filename: {2}\n{0}    protocol type: {3}\n"
      "{0}    file length: {4} ({5} bytes)\n{0}    disk size: {6}\n",
      indent, place, file.filename, file.protocol, human_size(file.length), file.length,
      human_size(file.allocated));
  append_file_specific(text, file, facts.parts.size() + 1);
}

}  // namespace

std::string snapshot_table(const std::vector<SnapshotInfo>& snapshots) {
  std::string text = snapshot_row("ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT");
  for (const SnapshotInfo& snapshot : snapshots) {
    text += snapshot_row(snapshot.id, snapshot.name, human_size(snapshot.vm_state_size),
                         local_date(snapshot.date_sec), vm_clock(snapshot.vm_clock_nsec),
                         snapshot.icount ? fmt::to_string(*snapshot.icount) : "--");
  }
  return text;
}

std::string info_to_text(const ImageFacts& facts) {
  const ImageInfo& image = facts.image;
  const FileFacts& file = facts.file;
  std::string text =
      fmt::format("image: {}\nfile format: {}\nvirtual size: {} ({} bytes)\ndisk size: {}\n",
                  facts.filename, facts.is_bare_file ? file.protocol : image.format,
                  human_size(image.virtual_size), image.virtual_size, human_size(file.allocated));
  if (facts.is_bare_file) {
    append_file_specific(text, file, 0);
    return text;
  }
  if (image.is_encrypted) text += "encrypted: yes\n";
  if (image.cluster_size) text += fmt::format("cluster_size: {}\n", *image.cluster_size);
  if (image.is_dirty) text += "cleanly shut down: no\n";
  append_backing(text, facts);
  if (!image.snapshots.empty()) {
    text += "Snapshot list:\n";
    text += snapshot_table(image.snapshots);
  }
  if (image.specific) {
    text += "Format specific information:\n";
    TreeWriter(text).write_members(*image.specific, 1);
  }
  append_nodes_below(text, facts);
  return text;
}

}  // namespace imgconv
