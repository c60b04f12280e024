#include "formats/qcow2/preallocation.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

Task<Result<bool>> has_preallocated_metadata(const Header& header, File& file,
                                             Refcounts& refcounts) {
  CO_ASSIGN_OR_RETURN(const FileStat stat, file.stat());
  const uint64_t real_clusters = stat.allocated >> header.cluster_bits;
  const uint64_t threshold = std::max(real_clusters * 10 / 9, real_clusters + 2);
  const uint64_t end = clusters_for(stat.length, header.cluster_bits).value();
  // A file without holes cannot reach the threshold: no need to read its refcounts.
  if (end < threshold) co_return false;
  CO_ASSIGN_OR_RETURN(const uint64_t used, co_await refcounts.count_used(end, threshold));
  co_return used >= threshold;
}

namespace {

/// The first piece of `rest` that is all data or all hole.
Extent first_piece(Extent rest, uint64_t file_end, bool refuses_truncated) {
  // The rest of the last cluster may be missing; what should be behind it is lost, and no hole.
  const uint64_t holes_end = refuses_truncated ? round_up(file_end, rest.cluster_size)
                                               : std::numeric_limits<uint64_t>::max();
  if (rest.host_offset >= holes_end) return rest;
  if (rest.host_offset + rest.length > holes_end) rest.length = holes_end - rest.host_offset;
  if (rest.host_offset >= file_end) {
    rest.is_zero = true;
    return rest;
  }
  const Result<FileExtent> status =
      rest.file->blocking().block_status(rest.host_offset, rest.length);
  if (!status || status->length == 0) return rest;
  const uint64_t end = status->host_offset + status->length;
  rest.is_zero = !status->is_data;
  // A hole that reaches the end of the file goes on behind it.
  const bool is_final_hole = rest.is_zero && end >= file_end;
  if (!is_final_hole) {
    rest.length = std::min(rest.length, end - rest.host_offset);
  }
  return rest;
}

void append_pieces(Extent rest, uint64_t file_end, bool refuses_truncated, ExtentList& pieces) {
  while (rest.length > 0) {
    const Extent piece = first_piece(rest, file_end, refuses_truncated);
    pieces.push_back(piece);
    rest.guest_offset += piece.length;
    rest.host_offset += piece.length;
    rest.length -= piece.length;
  }
}

}  // namespace

ExtentList split_at_file_holes(const ExtentList& extents, bool refuses_truncated) {
  ExtentList pieces;
  pieces.reserve(extents.size());
  // All data extents of an image are in one file.
  std::optional<uint64_t> file_end;
  for (const Extent& extent : extents) {
    if (extent.kind == ExtentKind::kData && !file_end) {
      const Result<FileStat> stat = extent.file->blocking().stat();
      if (!stat) return extents;
      file_end = stat->length;
    }
    if (extent.kind == ExtentKind::kData) {
      append_pieces(extent, *file_end, refuses_truncated, pieces);
    } else {
      pieces.push_back(extent);
    }
  }
  return pieces;
}

}  // namespace imgconv::qcow2
