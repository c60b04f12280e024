#include "cmd/snapshot_command.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <string>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/info_text.h"
#include "cmd/output.h"
#include "engine/open_image.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

/// Bytes of a name that qemu-img keeps.
constexpr size_t kMaxNameBytes = 255;

constexpr OptionDef kOptions[] = {
    {'q', {"quiet"}, nullptr, "accepted; there is nothing to suppress"},
    {'f', {"format"}, "FMT", "format of the image (default: probe)"},
    kImageOptsOption,
    kForceShareOption,
    {'l', {"list"}, nullptr, "list the snapshots (default)"},
    {'a', {"apply"}, "SNAP", "bring the disk back to the snapshot with this ID or name"},
    {'c', {"create"}, "SNAP", "take a snapshot of this name"},
    {'d', {"delete"}, "SNAP", "delete the snapshot with this name"},
    kObjectOption,
};

struct SnapshotArguments {
  OpenOptions open;
  /// One of l, a, c, d; 0: not said.
  int action = 0;
  std::string snapshot;
};

Result<void> accept_option(const Report& report, SnapshotArguments& arguments, int key,
                           const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, arguments.open.accept(key, value));
  if (is_taken || key == 'q') return ok();
  if (arguments.action != 0) return report.usage_error("Cannot mix '-l', '-a', '-c', '-d'");
  arguments.action = key;
  arguments.snapshot = value;
  return ok();
}

Result<void> create(Runtime& runtime, Image& image, const std::string& name) {
  using std::chrono::duration_cast, std::chrono::seconds, std::chrono::microseconds;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  SnapshotInfo info;
  info.name = name.substr(0, kMaxNameBytes);
  info.date_sec = static_cast<uint32_t>(duration_cast<seconds>(now).count());
  info.date_nsec =
      static_cast<uint32_t>(duration_cast<microseconds>(now).count() % 1'000'000) * 1000;
  info.icount = 0;
  const Result<void> created = runtime.run(image.create_snapshot(info));
  if (created) return ok();
  return Error::from_errno(created.error().code(),
                           fmt::format("Could not create snapshot '{}'", name));
}

Result<void> perform(Runtime& runtime, Image& image, const SnapshotArguments& arguments) {
  const std::string& name = arguments.snapshot;
  if (arguments.action == 'c') return create(runtime, image, name);
  const bool is_apply = arguments.action == 'a';
  Result<void> done =
      runtime.run(is_apply ? image.apply_snapshot(name) : image.delete_snapshot(name));
  if (done) return ok();
  return std::move(done).error().within(
      fmt::format("Could not {} snapshot '{}'", is_apply ? "apply" : "delete", name));
}

Result<int> run_on_image(const Report& report, const SnapshotArguments& arguments,
                         const std::string& name) {
  Runtime runtime(RuntimeOptions{});
  ConsoleMessages messages(report);
  const bool is_listing = arguments.action == 'l' || arguments.action == 0;
  ASSIGN_OR_RETURN(ImageRequest request, arguments.open.request(name));
  request.writable = !is_listing;
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                   runtime.run(open_image(runtime.storage(), request, messages)));
  Result<void> done;
  if (is_listing) {
    const std::vector<SnapshotInfo>& snapshots = chain->top().info().snapshots;
    if (!snapshots.empty()) print_out("Snapshot list:\n{}", snapshot_table(snapshots));
  } else {
    // An image without snapshots of its own is tried on its file, and then opened once more.
    const bool is_opened_again = arguments.action == 'a' && chain->layers().front().was_guessed_raw;
    if (is_opened_again) warn_of_guess(chain->layers().front().name, messages);
    done = perform(runtime, chain->top(), arguments);
  }
  const Result<void> closed = runtime.run(chain->close());
  RETURN_IF_ERROR(done);
  RETURN_IF_ERROR(closed);
  return 0;
}

Result<int> run_snapshot(const Report& report, std::span<char*> argv) {
  SnapshotArguments snapshot;
  ASSIGN_OR_RETURN(const Arguments arguments,
                   parse_arguments(report, kOptions, argv, [&](int key, const std::string& value) {
                     return accept_option(report, snapshot, key, value);
                   }));
  if (arguments.wants_help) {
    print_command_help(report, kSnapshotCommand);
    return 0;
  }
  ASSIGN_OR_RETURN(const std::string name, single_image_name(report, arguments));
  return run_on_image(report, snapshot, name);
}

}  // namespace

const Command kSnapshotCommand = {
    "snapshot", "List, take, apply or delete internal snapshots",
    "[-q] [-f FMT | --image-opts] [-U] [-l | -a SNAP | -c SNAP | -d SNAP] [--object OBJDEF] FILE",
    kOptions, run_snapshot};

}  // namespace imgconv
