#include "engine/dd.h"

#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "engine/create_image.h"
#include "engine/guest_write.h"
#include "engine/image_name.h"
#include "engine/ordered_pass.h"
#include "engine/target_staging.h"
#include "formats/format_names.h"
#include "formats/registry.h"
#include "loop/interrupt.h"
#include "loop/io_buffer.h"
#include "loop/out_of_memory.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// Readers beside the one that writes.
constexpr unsigned kWorkers = 4;
constexpr uint64_t kWindowBytes = 2 * kMiB;

/// The range of the input that is copied. A skip that leads behind the end is told apart.
struct DdRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool is_skip_beyond_end = false;
};

DdRange range_of(const DdOptions& options, uint64_t input_size) {
  DdRange range;
  range.end = input_size;
  if (options.count) {
    const std::optional<uint64_t> counted = checked_mul(*options.count, options.block_size);
    if (counted) range.end = std::min(range.end, *counted);
  }
  const std::optional<uint64_t> skipped = checked_mul(options.skip, options.block_size);
  range.is_skip_beyond_end = !skipped || *skipped > range.end;
  range.begin = range.is_skip_beyond_end ? range.end : *skipped;
  return range;
}

/// Steps of an OrderedPass.
class DdPass {
 public:
  struct Window {
    /// In the input.
    uint64_t guest_offset = 0;
    uint64_t length = 0;
    IoBuffer buffer;
  };

  DdPass(ImageChain& input, Image& output, const DdRange& range)
      : input_(input), output_(output), range_(range), position_(range.begin) {}

  Task<Result<bool>> claim(Window& window) {
    if (InterruptGuard::is_pending()) co_return Error::from_errno(EINTR);
    window.guest_offset = position_;
    window.length = std::min(kWindowBytes, range_.end - position_);
    position_ += window.length;
    co_return window.length > 0;
  }

  Task<Result<void>> prepare(Window& window) {
    if (window.buffer.size() == 0) window.buffer = IoBuffer(kWindowBytes);
    const Result<void> read =
        co_await input_.read(window.guest_offset, window.buffer.span().first(window.length));
    if (read) co_return ok();
    const int code = read.error().code();
    co_return Error(code,
                    fmt::format("error while reading from input image file: {}", errno_text(code)));
  }

  Task<Result<void>> write(Window& window) {
    const Result<void> written = co_await write_guest(output_, window.guest_offset - range_.begin,
                                                      window.buffer.span().first(window.length));
    if (written) co_return ok();
    const int code = written.error().code();
    co_return Error(code,
                    fmt::format("error while writing to output image file: {}", errno_text(code)));
  }

 private:
  ImageChain& input_;
  Image& output_;
  const DdRange range_;
  uint64_t position_ = 0;
};

/// "OUT: REASON", as creating says it, becomes "OUT: error while creating output image: REASON".
Error creation_error(const Error& error, const std::string& output) {
  const std::string prefix = output + ": ";
  if (!error.text().starts_with(prefix)) return error;
  return Error(error.code(), fmt::format("{}error while creating output image: {}", prefix,
                                         error.text().substr(prefix.size())))
      .with_hint(error.hint());
}

bool names_same_file(Storage& storage, const std::string& a, const std::string& b) {
  const Result<std::string> first = path_of_name(a);
  const Result<std::string> second = path_of_name(b);
  return first && second && storage.is_same_file(*first, *second);
}

Task<Result<PreparedCreate>> prepare_output(Storage& storage, const DdOptions& options,
                                            uint64_t size, Messages& messages) {
  if (find_driver(options.output_format) == nullptr) {
    Error refused = no_creation(options.output_format);
    if (refused.code() == ENOTSUP) co_return refused;
    co_return Error(EINVAL, "Unknown file format");
  }
  CreateRequest request;
  request.name = options.output;
  request.format = options.output_format;
  request.size = size;
  request.name_in_errors = false;
  co_return co_await prepare_create(storage, request, messages);
}

Result<TargetStaging> begin_staging(Storage& storage, const DdOptions& options,
                                    PreparedCreate& prepared) {
  StagingRequest request;
  request.target = options.output;
  request.format = options.output_format;
  request.context = fmt::format("{}: error while creating output image", options.output);
  return TargetStaging::begin(storage, request, &prepared.options);
}

Task<Result<std::unique_ptr<ImageChain>>> create_and_open(
    Storage& storage, const DdOptions& options, const PreparedCreate& prepared,
    const TargetStaging& staging, Messages& messages, std::optional<EmergencyCleanup>& emergency) {
  const Result<void> created = co_await perform_create(storage, prepared);
  if (!created) co_return creation_error(created.error(), options.output);
  staging.guard_created(emergency);
  ImageRequest output;
  output.name = options.output;
  output.format = options.output_format;
  output.writable = true;
  output.may_resize = true;
  if (prepared.options.is_incomplete) {
    output.incomplete_size = round_up(prepared.options.virtual_size, kSectorSize);
  }
  CO_ASSIGN_OR_RETURN(std::unique_ptr<ImageChain> chain,
                      co_await open_image(storage, output, messages));
  co_return chain;
}

Task<Result<void>> copy(ImageChain& input, Image& output, const DdRange& range) {
  DdPass steps(input, output, range);
  OrderedPass<DdPass> pass(steps);
  CO_RETURN_IF_ERROR(co_await pass.run(kWorkers));
  CO_RETURN_IF_ERROR(co_await output.flush(true));
  co_return ok();
}

/// From nothing to an output that is complete and has its name.
Task<Result<void>> make_output(Storage& storage, const DdOptions& options,
                               const PreparedCreate& prepared, ImageChain& input,
                               const DdRange& range, const TargetStaging& staging,
                               Messages& messages) {
  std::optional<EmergencyCleanup> emergency;
  Result<std::unique_ptr<ImageChain>> output =
      co_await create_and_open(storage, options, prepared, staging, messages, emergency);
  if (!output) {
    // The error that made the output useless is the one to tell.
    const Result<void> given_up = co_await staging.give_up(nullptr);
    static_cast<void>(given_up);
    co_return std::move(output).error();
  }
  ImageChain& chain = **output;
  if (range.is_skip_beyond_end) {
    // Like dd(1): a complaint, an empty output, and no failure.
    messages.error(fmt::format("{}: cannot skip to specified offset", options.input.name));
  }
  Result<void> copied = co_await copy(input, chain.top(), range);
  // Now: nothing may fail once the output looks complete.
  if (copied) copied = co_await input.close();
  CO_RETURN_IF_ERROR(co_await staging.close(chain, std::move(copied), options.output));
  CO_RETURN_IF_ERROR(staging.publish(chain));
  co_return ok();
}

}  // namespace

Task<Result<void>> dd(Storage& storage, const DdOptions& options, Messages& messages) {
  ImageRequest request = options.input;
  // An image that is copied onto itself must be in its own way, raw ones too.
  request.refuses_writers =
      !request.image_opts && names_same_file(storage, request.name, options.output);
  request.refuse_truncated = true;
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> input,
                      co_await open_image(storage, request, messages));
  if (request.force_share && request.refuses_writers) {
    // Under -U no lock tells of it.
    co_return Error(EAGAIN, fmt::format("{}: error while creating output image: Failed to get "
                                        "\"write\" lock",
                                        options.output))
        .with_hint(fmt::format("Is another process using the image [{}]?", options.output));
  }
  const DdRange range = range_of(options, input->virtual_size());
  CO_ASSIGN_OR_RETURN(PreparedCreate prepared,
                      co_await prepare_output(storage, options, range.end - range.begin, messages));
  CO_ASSIGN_OR_RETURN(const TargetStaging staging, begin_staging(storage, options, prepared));
  std::optional<InterruptGuard> interrupt;
  if (staging.needs_interrupt_guard()) interrupt.emplace();
  co_return co_await make_output(storage, options, prepared, *input, range, staging, messages);
}

}  // namespace imgconv
