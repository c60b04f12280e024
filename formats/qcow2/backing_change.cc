#include "formats/qcow2/backing_change.h"

#include <cerrno>
#include <cstddef>
#include <utility>
#include <vector>

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
  CO_ASSIGN_OR_RETURN(const std::vector<std::byte> cluster, changed.serialize());
  CO_RETURN_IF_ERROR(co_await io.write_one(0, cluster));
  header = std::move(changed);
  co_return ok();
}

}  // namespace imgconv::qcow2
