#include "cmd/info_text.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <ctime>

#include "cmd/info_json.h"
#include "cmd/json_writer.h"

namespace imgconv {

namespace {

ImageFacts overlay_facts() {
  ImageFacts facts;
  facts.filename = "d/top.qcow2";
  facts.image.format = "qcow2";
  facts.image.virtual_size = 67108864;
  facts.image.cluster_size = 65536;
  facts.image.backing_file = "base.qcow2";
  facts.image.backing_format = "qcow2";
  facts.file = {"d/top.qcow2", "file", 197120, 200704};
  return facts;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("info: the actual path is told when it differs from the backing name", "[cmd]") {
  ImageFacts facts = overlay_facts();
  CHECK(contains(info_to_text(facts),
                 "backing file: base.qcow2 (cannot determine actual path)\n"
                 "backing file format: qcow2\n"));
  facts.full_backing_filename = "base.qcow2";
  CHECK(contains(info_to_text(facts), "backing file: base.qcow2\n"));
  facts.full_backing_filename = "d/base.qcow2";
  CHECK(contains(info_to_text(facts), "backing file: base.qcow2 (actual path: d/base.qcow2)\n"));
}

TEST_CASE("info: a bare file has neither a format on top nor a child", "[cmd]") {
  ImageFacts facts = overlay_facts();
  facts.image = {};
  facts.image.virtual_size = facts.file.length;
  facts.is_bare_file = true;
  CHECK(info_to_text(facts) ==
        "image: d/top.qcow2\nfile format: file\nvirtual size: 192 KiB (197120 bytes)\n"
        "disk size: 196 KiB\n");
  facts.file.filename = "d/top.qcow2";
  CHECK(to_json(info_to_json(facts)) ==
        "{\n    \"children\": [\n    ],\n    \"virtual-size\": 197120,\n"
        "    \"filename\": \"d/top.qcow2\",\n    \"format\": \"file\",\n"
        "    \"actual-size\": 200704,\n    \"format-specific\": {\n"
        "        \"type\": \"file\",\n        \"data\": {\n        }\n    },\n"
        "    \"dirty-flag\": false\n}");
}

TEST_CASE("info: a dirty and an encrypted image say so at their places", "[cmd]") {
  ImageFacts facts = overlay_facts();
  facts.image.is_dirty = true;
  facts.image.is_encrypted = true;
  CHECK(contains(info_to_text(facts),
                 "disk size: 196 KiB\nencrypted: yes\ncluster_size: 65536\n"
                 "cleanly shut down: no\nbacking file:"));
}

TEST_CASE("info: format specific lists are numbered and indented", "[cmd]") {
  ImageFacts facts = overlay_facts();
  InfoValue::Array flags;
  flags.push_back(InfoValue{std::string("auto")});
  InfoValue::Object bitmap;
  bitmap.emplace_back("granularity", InfoValue{uint64_t{65536}});
  bitmap.emplace_back("name", InfoValue{std::string("b0")});
  bitmap.emplace_back("flags", InfoValue{std::move(flags)});
  InfoValue::Array bitmaps;
  bitmaps.push_back(InfoValue{std::move(bitmap)});
  InfoValue::Object specific;
  specific.emplace_back("extended-l2", InfoValue{false});
  specific.emplace_back("bitmaps", InfoValue{std::move(bitmaps)});
  facts.image.specific = InfoValue{std::move(specific)};
  CHECK(contains(info_to_text(facts),
                 "Format specific information:\n"
                 "    bitmaps:\n"
                 "        [0]:\n"
                 "            flags:\n"
                 "                [0]: auto\n"
                 "            name: b0\n"
                 "            granularity: 65536\n"
                 "    extended l2: false\n"
                 "Child node '/file':\n"));
}

TEST_CASE("info: the snapshot table has qemu-img's columns and local dates", "[cmd]") {
  setenv("TZ", "UTC-2", 1);
  tzset();
  std::vector<SnapshotInfo> snapshots(2);
  SnapshotInfo& first = snapshots[0];
  first.id = "1";
  first.name = "s1";
  first.date_sec = 1795317235;
  first.vm_clock_nsec = 3723004000000;
  first.icount = 0;
  SnapshotInfo& second = snapshots[1];
  second.id = first.id;
  second.date_sec = first.date_sec;
  second.vm_clock_nsec = first.vm_clock_nsec;
  second.name = "a longer name than sixteen";
  second.vm_state_size = 1048576;
  CHECK(snapshot_table(snapshots) ==
        "ID      TAG               VM_SIZE                DATE        VM_CLOCK     ICOUNT\n"
        "1       s1                    0 B 2026-11-22 05:13:55  0001:02:03.004          0\n"
        "1       a longer name than sixteen    1 MiB 2026-11-22 05:13:55  0001:02:03.004         "
        "--\n");
}

}  // namespace imgconv
