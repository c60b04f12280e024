#include "cmd/info_json.h"

#include <string>
#include <utility>

namespace imgconv {

namespace {

constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;

void add(InfoValue::Object& object, const char* key, InfoValue value) {
  object.emplace_back(key, std::move(value));
}
InfoValue text(std::string value) { return {std::move(value)}; }
InfoValue number(uint64_t value) { return {value}; }
InfoValue boolean(bool value) { return {value}; }

InfoValue format_specific(std::string type, InfoValue data) {
  InfoValue::Object object;
  add(object, "type", text(std::move(type)));
  add(object, "data", std::move(data));
  return {std::move(object)};
}

InfoValue file_node(const FileFacts& file) {
  InfoValue::Object object;
  add(object, "children", {InfoValue::Array{}});
  add(object, "virtual-size", number(file.length));
  add(object, "filename", text(file.filename));
  add(object, "format", text(file.protocol));
  add(object, "actual-size", number(file.allocated));
  // Empty but present; "file" for a device, too.
  InfoValue::Object specific;
  if (file.extent_size_hint != 0) {
    add(specific, "extent-size-hint", number(file.extent_size_hint));
  }
  add(object, "format-specific", format_specific("file", {std::move(specific)}));
  add(object, "dirty-flag", boolean(false));
  return {std::move(object)};
}

InfoValue child(const char* name, InfoValue node) {
  InfoValue::Object object;
  add(object, "name", text(name));
  add(object, "info", std::move(node));
  return {std::move(object)};
}

/// The file, in as many parts of it as there are.
InfoValue nodes_below(const ImageFacts& facts) {
  InfoValue node = file_node(facts.file);
  for (const PartFacts& part : facts.parts) {
    InfoValue::Array children;
    children.push_back(child("file", std::move(node)));
    InfoValue::Object object;
    add(object, "children", {std::move(children)});
    add(object, "virtual-size", number(part.length));
    add(object, "filename", text(part.filename));
    add(object, "format", text("raw"));
    add(object, "actual-size", number(facts.file.allocated));
    add(object, "dirty-flag", boolean(false));
    node = {std::move(object)};
  }
  return node;
}

InfoValue snapshot(const SnapshotInfo& snapshot) {
  InfoValue::Object object;
  if (snapshot.icount) add(object, "icount", number(*snapshot.icount));
  add(object, "vm-clock-nsec", number(snapshot.vm_clock_nsec % kNanosecondsPerSecond));
  add(object, "name", text(snapshot.name));
  add(object, "date-sec", number(snapshot.date_sec));
  add(object, "date-nsec", number(snapshot.date_nsec));
  add(object, "vm-clock-sec", number(snapshot.vm_clock_nsec / kNanosecondsPerSecond));
  add(object, "id", text(snapshot.id));
  add(object, "vm-state-size", number(snapshot.vm_state_size));
  return {std::move(object)};
}

InfoValue snapshot_list(const std::vector<SnapshotInfo>& snapshots) {
  InfoValue::Array array;
  for (const SnapshotInfo& info : snapshots) array.push_back(snapshot(info));
  return {std::move(array)};
}

}  // namespace

InfoValue info_to_json(const ImageFacts& facts) {
  if (facts.is_bare_file) return file_node(facts.file);
  const ImageInfo& image = facts.image;
  InfoValue::Object object;
  add(object, "virtual-size", number(image.virtual_size));
  add(object, "filename", text(facts.filename));
  add(object, "format", text(image.format));
  add(object, "actual-size", number(facts.file.allocated));
  if (image.cluster_size) add(object, "cluster-size", number(*image.cluster_size));
  if (image.is_encrypted) add(object, "encrypted", boolean(true));
  if (!image.snapshots.empty()) add(object, "snapshots", snapshot_list(image.snapshots));
  if (image.specific) {
    add(object, "format-specific", format_specific(image.format, *image.specific));
  }
  if (!image.backing_file.empty()) {
    add(object, "backing-filename", text(image.backing_file));
    if (facts.full_backing_filename) {
      add(object, "full-backing-filename", text(*facts.full_backing_filename));
    }
    if (!image.backing_format.empty()) {
      add(object, "backing-filename-format", text(image.backing_format));
    }
  }
  add(object, "dirty-flag", boolean(image.is_dirty));
  // Last, because it shares a bucket of QEMU's hash table with backing-filename-format.
  InfoValue::Array children;
  children.push_back(child("file", nodes_below(facts)));
  add(object, "children", {std::move(children)});
  return {std::move(object)};
}

}  // namespace imgconv
