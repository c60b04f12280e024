#include "formats/image.h"

#include <cerrno>

namespace imgconv {

// What a format need not offer.

Task<Result<void>> Image::change_backing(const std::string& /*name*/,
                                         const std::string& /*format*/) {
  co_return Error::from_errno(ENOTSUP);
}

Task<Result<CheckReport>> Image::repair(RepairMode /*mode*/, const CheckSink& /*sink*/) {
  co_return Error(ENOTSUP, "This image format does not support checks");
}

Task<Result<void>> Image::make_empty() { co_return Error::from_errno(ENOTSUP); }

}  // namespace imgconv
