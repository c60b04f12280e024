#include "engine/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/concat_source.h"
#include "engine/convert_bitmaps.h"
#include "engine/convert_checks.h"
#include "engine/convert_target.h"
#include "engine/copy_job.h"
#include "engine/image_name.h"
#include "engine/plan.h"
#include "engine/snapshot_selector.h"
#include "engine/target_staging.h"
#include "loop/interrupt.h"
#include "loop/out_of_memory.h"
#include "loop/try.h"

namespace imgconv {
namespace {

Task<Result<ConcatSource>> open_sources(Storage& storage, const ConvertOptions& options,
                                        Messages& messages) {
  std::vector<std::unique_ptr<ImageChain>> chains;
  for (const std::string& name : options.sources) {
    ImageRequest request;
    request.name = name;
    request.format = options.source_format;
    request.image_opts = options.source_image_opts;
    request.cache = options.source_cache;
    request.force_share = options.force_share;
    request.refuses_writers = true;
    request.refuse_truncated = true;
    request.untrusted = options.untrusted;
    CO_ASSIGN_OR_RETURN(std::unique_ptr<ImageChain> chain,
                        co_await open_image(storage, request, messages));
    chains.push_back(std::move(chain));
  }
  co_return ConcatSource::make(std::move(chains));
}

/// Under -U no lock tells that the target is what is read.
Result<void> refuse_own_target(Storage& storage, const ConcatSource& source,
                               const ConvertOptions& options) {
  if (!options.force_share || options.skip_create || options.replace) return ok();
  ASSIGN_OR_RETURN(const std::string path, path_of_name(options.target));
  for (const ConcatSource::Part& part : source.parts()) {
    for (const Layer& layer : part.chain->layers()) {
      for (const File* file : layer.image->files()) {
        if (!storage.is_same_file(file->name(), path)) continue;
        return Error(EAGAIN,
                     fmt::format("{}: error while converting {}: Failed to get \"write\" lock",
                                 options.target, options.target_format))
            .with_hint(fmt::format("Is another process using the image [{}]?", options.target));
      }
    }
  }
  return ok();
}

Task<Result<void>> load_source_snapshot(ConcatSource& source, const SnapshotSelector& selector) {
  // By its parts a snapshot is looked for in the first source, as in qemu-img.
  if (selector.id_or_name && source.parts().size() > 1) {
    co_return Error(EINVAL, "No support for concatenating multiple snapshot");
  }
  co_return co_await load_snapshot(source.parts().front().chain->top(), selector);
}

Task<Result<void>> copy(const ConcatSource& source, Image& target, const ConvertPlan& plan,
                        Executor& executor, Messages& messages, CopyWitness* witness,
                        ConvertSummary& summary) {
  CopyJob job(source, target, plan, executor, messages, witness);
  CO_RETURN_IF_ERROR(co_await job.run());
  summary.virtual_size = plan.virtual_size;
  summary.bytes_written = job.bytes_written();
  summary.bytes_zero = plan.virtual_size - std::min(plan.virtual_size, summary.bytes_written);
  co_return ok();
}

Result<TargetStaging> begin_staging(Storage& storage, const ConvertOptions& options,
                                    PreparedTarget& prepared) {
  StagingRequest request;
  request.target = options.target;
  request.format = options.target_format;
  request.replaces = options.replace;
  request.sync = options.sync;
  request.context =
      fmt::format("{}: error while converting {}", options.target, options.target_format);
  return TargetStaging::begin(storage, request,
                              prepared.create ? &prepared.create->options : nullptr);
}

/// Everything that happens between the opened and the closed target.
Task<Result<void>> fill_target(const ConcatSource& source, ImageChain& target,
                               const ConvertOptions& options, const TargetFacts& facts,
                               Storage& storage, Messages& messages, ConvertChecks& checks,
                               ConvertSummary& summary) {
  const SourceFacts source_facts{source.virtual_size(), source.prefers_async()};
  CO_ASSIGN_OR_RETURN(const ConvertPlan plan, make_plan(options, source_facts, facts));
  CO_RETURN_IF_ERROR(checks.begin(facts.is_new_file && facts.is_identity));
  CO_RETURN_IF_ERROR(co_await copy(source, target.top(), plan, storage.executor(), messages,
                                   checks.witness(), summary));
  const bool sync = options.target_cache != CacheMode::kUnsafe;
  const Result<void> flushed = co_await target.top().flush(sync);
  if (!flushed) co_return Error(flushed.error()).within(options.target);
  if (options.bitmaps) {
    Image& top = source.parts().front().chain->top();
    CO_RETURN_IF_ERROR(co_await copy_bitmaps(top, target.top(), options, messages));
  }
  CO_RETURN_IF_ERROR(co_await checks.verify(storage, target, messages));
  co_return ok();
}

Task<Result<std::unique_ptr<ImageChain>>> create_and_open(
    Storage& storage, const ConvertOptions& options, const PreparedTarget& prepared,
    const TargetStaging& staging, Messages& messages, std::optional<EmergencyCleanup>& emergency) {
  CO_RETURN_IF_ERROR(co_await create_target(storage, options, prepared));
  staging.guard_created(emergency);
  co_return co_await open_target(storage, options, prepared, messages);
}

/// From nothing to a target that is complete and has its name.
Task<Result<void>> make_target(Storage& storage, const ConvertOptions& options,
                               const PreparedTarget& prepared, const ConcatSource& source,
                               const TargetStaging& staging, Messages& messages,
                               ConvertChecks& checks, ConvertSummary& summary) {
  std::optional<EmergencyCleanup> emergency;
  Result<std::unique_ptr<ImageChain>> target =
      co_await create_and_open(storage, options, prepared, staging, messages, emergency);
  if (!target) {
    // The error that made the target useless is the one to tell.
    const Result<void> given_up = co_await staging.give_up(nullptr);
    static_cast<void>(given_up);
    co_return std::move(target).error();
  }
  ImageChain& chain = **target;
  Result<void> filled;
  if (options.bitmaps) filled = check_target_bitmaps(chain.top());
  if (filled) {
    const TargetFacts facts = target_facts(chain, options, prepared);
    filled =
        co_await fill_target(source, chain, options, facts, storage, messages, checks, summary);
  }
  CO_RETURN_IF_ERROR(co_await staging.close(chain, std::move(filled), options.target));
  CO_RETURN_IF_ERROR(co_await checks.add_file_digests(storage, chain.top().file().name()));
  CO_RETURN_IF_ERROR(staging.publish(chain));
  co_return ok();
}

}  // namespace

Task<Result<ConvertSummary>> convert(Storage& storage, const ConvertOptions& options,
                                     Messages& messages) {
  CO_ASSIGN_OR_RETURN(ConcatSource source, co_await open_sources(storage, options, messages));
  if (options.snapshot)
    CO_RETURN_IF_ERROR(co_await load_source_snapshot(source, *options.snapshot));

  CO_ASSIGN_OR_RETURN(PreparedTarget prepared,
                      co_await prepare_target(storage, options, source.virtual_size(), messages));
  if (options.bitmaps) CO_RETURN_IF_ERROR(check_source_bitmaps(source, options));
  CO_RETURN_IF_ERROR(co_await validate_target(storage, options, prepared, messages));
  if (options.bitmaps) CO_RETURN_IF_ERROR(check_created_bitmaps(prepared));
  CO_RETURN_IF_ERROR(refuse_own_target(storage, source, options));
  CO_ASSIGN_OR_RETURN(ConvertChecks checks, ConvertChecks::make(options, prepared.has_backing));
  CO_ASSIGN_OR_RETURN(const TargetStaging staging, begin_staging(storage, options, prepared));
  std::optional<InterruptGuard> interrupt;
  if (staging.needs_interrupt_guard()) interrupt.emplace();
  ConvertSummary summary;
  CO_RETURN_IF_ERROR(
      co_await make_target(storage, options, prepared, source, staging, messages, checks, summary));
  summary.digests = checks.take_digests();
  co_return summary;
}

}  // namespace imgconv
