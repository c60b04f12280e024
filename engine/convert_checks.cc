#include "engine/convert_checks.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "engine/file_digest.h"
#include "engine/message_digest.h"
#include "engine/open_image.h"
#include "engine/verify_target.h"
#include "loop/try.h"

namespace imgconv {

Result<ConvertChecks> ConvertChecks::make(const ConvertOptions& options, bool target_has_backing) {
  for (const DigestRequest& request : options.digests) {
    RETURN_IF_ERROR(MessageDigest::make(request.algorithm));
    if (target_has_backing && !request.of_file) {
      return Error(EINVAL,
                   "A digest of the disk needs all of it to be copied, which is not so with a "
                   "backing file for the target; --digest file:ALG works");
    }
  }
  return ConvertChecks(options);
}

std::vector<std::string> ConvertChecks::algorithms(bool witnessed) const {
  std::vector<std::string> names;
  for (const DigestRequest& request : options_->digests) {
    if (is_witnessed(request) == witnessed) names.push_back(request.algorithm);
  }
  return names;
}

Result<void> ConvertChecks::begin(bool file_is_disk) {
  file_is_disk_ = file_is_disk;
  const std::vector<std::string> witnessed = algorithms(true);
  if (witnessed.empty() && !options_->verify) return ok();
  ASSIGN_OR_RETURN(witness_, CopyWitness::make(witnessed, options_->verify));
  return ok();
}

Task<Result<void>> ConvertChecks::verify(Storage& storage, ImageChain& target, Messages& messages) {
  if (!options_->verify) co_return ok();
  ImageRequest request;
  request.name = options_->target;
  request.format = options_->target_image_opts ? "" : options_->target_format;
  request.image_opts = options_->target_image_opts;
  request.cache = options_->target_cache;
  // Our own lock is on it.
  request.force_share = true;
  request.incomplete_size = target.virtual_size();
  const std::vector<ContentRecord> records = witness_->take_records();
  CO_RETURN_IF_ERROR(co_await verify_target(storage, target, request, records, messages));
  co_return ok();
}

Task<Result<void>> ConvertChecks::add_file_digests(Storage& storage, const std::string& name) {
  const std::vector<std::string> names = algorithms(false);
  if (names.empty()) co_return ok();
  CO_ASSIGN_OR_RETURN(file_digests_, co_await digest_file(storage, name, names));
  co_return ok();
}

std::vector<DigestValue> ConvertChecks::take_digests() {
  std::vector<std::string> of_pass;
  if (witness_) of_pass = witness_->finish_digests();
  auto next_of_pass = of_pass.begin();
  auto next_of_file = file_digests_.begin();
  std::vector<DigestValue> digests;
  for (const DigestRequest& request : options_->digests) {
    DigestValue& digest = digests.emplace_back();
    digest.request = request;
    digest.hexadecimal = is_witnessed(request) ? *next_of_pass++ : *next_of_file++;
    digest.is_of_file = request.of_file || file_is_disk_;
  }
  return digests;
}

}  // namespace imgconv
