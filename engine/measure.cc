#include "engine/measure.h"

#include <fmt/format.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "engine/create_image.h"
#include "engine/measure_bitmaps.h"
#include "formats/format_names.h"
#include "formats/registry.h"
#include "loop/try.h"

namespace imgconv {
namespace {

bool holds_data(const Extent& extent) {
  return extent.kind == ExtentKind::kCompressed ||
         (extent.kind == ExtentKind::kData && !extent.is_zero);
}

void append_merged(std::vector<MeasureRange>& ranges, const Extent& extent) {
  const bool is_data = holds_data(extent);
  if (!ranges.empty() && ranges.back().is_data == is_data) {
    ranges.back().length += extent.length;
  } else {
    ranges.push_back({extent.guest_offset, extent.length, is_data});
  }
}

Task<Result<std::vector<MeasureRange>>> ranges_of(ImageChain& chain) {
  std::vector<MeasureRange> ranges;
  const uint64_t size = chain.virtual_size();
  uint64_t position = 0;
  while (position < size) {
    const Result<std::vector<ChainExtent>> mapped = co_await chain.map(position, size - position);
    if (!mapped) {
      co_return Error::from_errno(mapped.error().code(), "Unable to get block status");
    }
    for (const ChainExtent& found : *mapped) append_merged(ranges, found.extent);
    position = mapped->back().extent.guest_end();
  }
  co_return ranges;
}

Result<OptionValues> parse_target_options(const MeasureRequest& request, const BlockDriver& driver,
                                          Messages* messages) {
  if (request.target_options.empty()) return OptionValues();
  if (!is_valid_option_text(request.target_options)) {
    return Error(EINVAL, fmt::format("Invalid option list: {}", request.target_options));
  }
  Result<OptionValues> values = parse_options(creation_options(driver), request.target_options);
  if (values || messages == nullptr) return values;
  messages->error(values.error().text());
  if (!values.error().hint().empty()) messages->raw_line(values.error().hint());
  return Error(EINVAL, fmt::format("Invalid options for file format '{}'", request.target_format));
}

}  // namespace

Task<Result<MeasureReport>> measure(const MeasureRequest& request, ImageChain* chain,
                                    Messages* messages) {
  const BlockDriver* const driver = find_driver(request.target_format);
  if (driver == nullptr) {
    co_return no_measurement(request.target_format);
  }
  CreateImageOptions options;
  CO_ASSIGN_OR_RETURN(options.options, parse_target_options(request, *driver, messages));
  std::vector<MeasureRange> ranges;
  if (chain != nullptr) {
    options.virtual_size = chain->virtual_size();
    CO_ASSIGN_OR_RETURN(ranges, co_await ranges_of(*chain));
  } else {
    options.virtual_size = request.size.value_or(0);
  }
  CO_ASSIGN_OR_RETURN(MeasureReport report, driver->measure(options, ranges));
  if (chain != nullptr) {
    report.bitmaps = measure_bitmaps(chain->top().info(), *driver, options.options);
  }
  co_return report;
}

}  // namespace imgconv
