#include "cmd/check_report.h"

#include <fmt/format.h>

#include "cmd/json_writer.h"

namespace imgconv {

namespace {

double percent(uint64_t part, uint64_t whole) {
  return static_cast<double>(part) * 100.0 / static_cast<double>(whole);
}

}  // namespace

std::string repairs_to_text(const CheckReport& report) {
  return fmt::format(
      "The following inconsistencies were found and repaired:\n\n"
      "    {} leaked clusters\n"
      "    {} corruptions\n\n"
      "Double checking the fixed image now...\n",
      report.leaks_fixed, report.corruptions_fixed);
}

std::string check_to_text(const CheckReport& report) {
  std::string text;
  if (report.corruptions == 0 && report.leaks == 0 && report.check_errors == 0) {
    text += "No errors were found on the image.\n";
  }
  if (report.corruptions != 0) {
    text += fmt::format(
        "\n{} errors were found on the image.\n"
        "Data may be corrupted, or further writes to the image may corrupt it.\n",
        report.corruptions);
  }
  if (report.leaks != 0) {
    text += fmt::format(
        "\n{} leaked clusters were found on the image.\n"
        "This means waste of disk space, but no harm to data.\n",
        report.leaks);
  }
  if (report.check_errors != 0) {
    text +=
        fmt::format("\n{} internal errors have occurred during the check.\n", report.check_errors);
  }
  if (report.total_clusters != 0 && report.allocated_clusters != 0) {
    text +=
        fmt::format("{}/{} = {:.2f}% allocated, {:.2f}% fragmented, {:.2f}% compressed clusters\n",
                    report.allocated_clusters, report.total_clusters,
                    percent(report.allocated_clusters, report.total_clusters),
                    percent(report.fragmented_clusters, report.allocated_clusters),
                    percent(report.compressed_clusters, report.allocated_clusters));
  }
  if (report.image_end_offset != 0) {
    text += fmt::format("Image end offset: {}\n", report.image_end_offset);
  }
  return text;
}

std::string check_to_json(const CheckReport& report, const std::string& filename,
                          const std::string& format) {
  InfoValue::Object object;
  const auto add_if_set = [&object](const char* key, uint64_t value) {
    if (value != 0) add_member(object, key, value);
  };
  add_member(object, "filename", filename);
  add_member(object, "format", format);
  add_member(object, "check-errors", report.check_errors);
  add_if_set("image-end-offset", report.image_end_offset);
  add_if_set("corruptions", report.corruptions);
  add_if_set("leaks", report.leaks);
  add_if_set("corruptions-fixed", report.corruptions_fixed);
  add_if_set("leaks-fixed", report.leaks_fixed);
  add_if_set("total-clusters", report.total_clusters);
  add_if_set("allocated-clusters", report.allocated_clusters);
  add_if_set("fragmented-clusters", report.fragmented_clusters);
  add_if_set("compressed-clusters", report.compressed_clusters);
  return to_json({std::move(object)}) + "\n";
}

int check_exit_code(const CheckReport& report) {
  if (report.check_errors != 0) return 1;
  if (report.corruptions != 0) return kCheckFoundCorruption;
  return report.leaks != 0 ? kCheckFoundLeaks : 0;
}

}  // namespace imgconv
