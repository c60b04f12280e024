#include "formats/qcow2/driver.h"

#include <utility>

#include "formats/qcow2/amend_options.h"
#include "formats/qcow2/create.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/measure.h"

namespace imgconv {

namespace {

class Qcow2Driver final : public BlockDriver {
 public:
  std::string_view name() const override { return "qcow2"; }
  bool probe(std::span<const std::byte> head) const override { return qcow2::probe(head); }
  Task<Result<std::unique_ptr<Image>>> open(std::unique_ptr<File> file,
                                            OpenImageOptions options) const override {
    return qcow2::Qcow2Image::open(std::move(file), std::move(options));
  }
  const OptionList& create_options() const override { return qcow2::create_options(); }
  const OptionList* amend_options() const override { return &qcow2::amend_options(); }
  Result<void> validate_create(const CreateImageOptions& options) const override {
    return qcow2::validate_create(options);
  }
  Task<Result<void>> create(File& file, CreateImageOptions options) const override {
    CO_RETURN_IF_ERROR(co_await qcow2::create(file, options));
    co_return ok();
  }
  bool supports_backing() const override { return true; }
  bool supports_compression() const override { return true; }
  bool supports_bitmaps(const OptionValues& options) const override {
    const std::string compat = options.string("compat").value_or("1.1");
    return compat != "0.10" && compat != "v2";
  }
  Result<MeasureReport> measure(const CreateImageOptions& options,
                                const std::vector<MeasureRange>& ranges) const override {
    return qcow2::measure(options, ranges);
  }
};

}  // namespace

const BlockDriver& qcow2_driver() {
  static const Qcow2Driver driver;
  return driver;
}

}  // namespace imgconv
