#include "formats/qcow2/backing_change.h"

#include <cerrno>
#include <utility>

#include "formats/qcow2/header_update.h"

namespace imgconv::qcow2 {

Task<Result<void>> change_backing(TableIo& io, Header& header, const std::string& name,
                                  const std::string& format) {
  // A raw data file promises that it alone is the disk (QCOW2.md 8).
  if (!name.empty() && header.is_data_file_raw()) co_return Error::from_errno(EINVAL);
  if (name.size() > kMaxBackingNameBytes) co_return Error::from_errno(EINVAL);
  Header changed = header;
  changed.backing_file = name;
  changed.extensions.backing_format.reset();
  if (!format.empty()) changed.extensions.backing_format = format;
  CO_RETURN_IF_ERROR(co_await update_header(io.file(), changed));
  header = std::move(changed);
  co_return ok();
}

}  // namespace imgconv::qcow2
