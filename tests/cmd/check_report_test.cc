#include "cmd/check_report.h"

#include <catch2/catch.hpp>

namespace imgconv {

TEST_CASE("check: a clean image is described with its allocation", "[cmd]") {
  CheckReport report;
  report.total_clusters = 1024;
  report.allocated_clusters = 18;
  report.fragmented_clusters = 18;
  report.compressed_clusters = 18;
  report.image_end_offset = 393216;
  CHECK(check_to_text(report) ==
        "No errors were found on the image.\n"
        "18/1024 = 1.76% allocated, 100.00% fragmented, 100.00% compressed clusters\n"
        "Image end offset: 393216\n");
  CHECK(check_exit_code(report) == 0);
}

TEST_CASE("check: leaks, corruptions and errors have a paragraph each", "[cmd]") {
  CheckReport report;
  report.corruptions = 1;
  report.leaks = 2;
  report.check_errors = 3;
  CHECK(check_to_text(report) ==
        "\n1 errors were found on the image.\n"
        "Data may be corrupted, or further writes to the image may corrupt it.\n"
        "\n2 leaked clusters were found on the image.\n"
        "This means waste of disk space, but no harm to data.\n"
        "\n3 internal errors have occurred during the check.\n");
}

TEST_CASE("check: the worst finding decides the exit code", "[cmd]") {
  CheckReport report;
  report.leaks = 1;
  CHECK(check_exit_code(report) == 3);
  report.corruptions = 1;
  CHECK(check_exit_code(report) == 2);
  report.check_errors = 1;
  CHECK(check_exit_code(report) == 1);
}

TEST_CASE("check: JSON leaves zeros out but for the number of errors", "[cmd]") {
  CheckReport report;
  report.leaks = 1;
  report.image_end_offset = 458752;
  CHECK(check_to_json(report, "x.qcow2", "qcow2") ==
        "{\n"
        "    \"image-end-offset\": 458752,\n"
        "    \"check-errors\": 0,\n"
        "    \"leaks\": 1,\n"
        "    \"filename\": \"x.qcow2\",\n"
        "    \"format\": \"qcow2\"\n"
        "}\n");
}

}  // namespace imgconv
