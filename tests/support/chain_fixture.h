// ChainFixture: for tests of the commands that change a chain of images (rebase, commit): images in
// memory, made by Qcow2Builder, what one of them holds itself, and the failure of every step.
#pragma once

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/open_image.h"
#include "tests/support/convert_fixture.h"
#include "tests/support/fault_file.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::test {

struct ChainFixture {
  static constexpr uint64_t kCluster = 4 * kKiB;

  static Qcow2Builder builder(uint64_t clusters) {
    Qcow2Builder made;
    made.cluster_bits(12).size(clusters * kCluster);
    return made;
  }

  ExtentKind kind_in(const std::string& name, uint64_t guest_cluster) {
    ImageRequest request;
    request.name = name;
    RecordingMessages messages;
    auto chain = run_inline(open_image(storage, request, messages));
    REQUIRE_THAT(chain, IsOk());
    const auto extents = run_inline((*chain)->top().map(guest_cluster * kCluster, kCluster));
    REQUIRE_THAT(extents, IsOk());
    return extents->front().kind;
  }

  /// Runs `change` with its first operation on a file failing, then with its second, until it has
  /// no more of them. "top" must show the same each time. `changed`: the images that it writes to.
  void fail_at_every_step(const std::vector<std::string>& changed,
                          const std::function<Result<void>()>& change) {
    const Bytes shown = guest_bytes(storage, "top");
    std::vector<std::pair<std::string, Bytes>> images;
    for (const std::string& name : changed) images.emplace_back(name, storage.bytes(name));
    for (uint64_t step = 1;; ++step) {
      INFO(step);
      for (const auto& [name, bytes] : images) storage.add(name, bytes);
      FaultScript script;
      script.fail_nth(kAnyOperation, step, EIO);
      storage.set_wrapper([&script](std::unique_ptr<BlockingFile> file) {
        return std::make_unique<FaultFile>(std::move(file), script);
      });
      const Result<void> done = change();
      REQUIRE(is_equal(guest_bytes(storage, "top"), shown));
      if (script.fired() == 0) {
        REQUIRE_THAT(done, IsOk());
        return;
      }
      REQUIRE(step < 1000);
    }
  }

  MemStorage storage;
};

}  // namespace imgconv::test
