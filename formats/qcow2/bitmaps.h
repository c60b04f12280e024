// Bitmaps: the persistent bitmaps of an open qcow2 image (QCOW2.md 9): the directory in memory,
// what guest writes leave in enabled bitmaps, and the way of all that changed to the file.
//
// The file always has a valid directory. store() writes what changed to new places and then lets
// the header point to it, so that a crash leaves the bitmaps as they were, and leaks. Before the
// first guest write that an enabled bitmap must record, it is marked in use in the file: if we die
// before store(), it is inconsistent and known to be.
//
// Owned by the image, whose mutex the BitmapStore part takes. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/bitmap_store.h"
#include "formats/qcow2/bitmap_content.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/table_io.h"
#include "formats/qcow2/writer.h"
#include "loop/co_mutex.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

class Bitmaps final : public BitmapStore {
 public:
  /// `directory` is what the file has. The others must outlive it.
  Bitmaps(Header& header, TableIo& io, CoMutex& mutex, std::vector<BitmapInfo> directory);

  // ---- For the image, which holds the mutex ----

  /// Loads the bitmaps that record writes. Once, before anything is changed; `writer` must outlive
  /// this object.
  Task<Result<void>> start_writing(Writer& writer);
  bool is_empty() const { return bitmaps_.empty(); }
  /// A guest write of the range is about to happen. Requires: length > 0, inside the disk.
  Task<Result<void>> record(uint64_t guest_offset, uint64_t length);
  /// The disk is about to get this size. In the file all bitmaps are in use from here on, as their
  /// tables do not fit another size, and store() leaves them so until finish_resize(). "Bitmap 'x'
  /// is inconsistent and cannot be used", "Too much space will be occupied by the bitmap ...".
  Task<Result<void>> prepare_resize(uint64_t guest_size);
  /// The file's header has the new size: bits behind its end are lost, new ones are clean.
  Task<Result<void>> finish_resize();
  /// The disk has the size that it had.
  void abandon_resize() { is_resizing_ = false; }
  /// Writes out what changed. Flushes the writer, and the file between dependent steps.
  Task<Result<void>> store();

  // ---- BitmapStore ----

  std::vector<PersistentBitmap> list() const override;
  bool can_hold_bitmaps() const override { return header_.version >= 3; }
  uint64_t default_granularity() const override;
  Result<void> check_new(const std::string& name, uint64_t granularity) const override;
  Task<Result<std::vector<GuestRange>>> dirty_ranges(size_t index, uint64_t guest_offset) override;
  Task<Result<void>> add(PersistentBitmap bitmap) override;
  Task<Result<void>> remove(size_t index) override;
  Task<Result<void>> clear(size_t index) override;
  Task<Result<void>> set_enabled(size_t index, bool is_enabled) override;
  Task<Result<void>> mark(size_t index, const std::vector<GuestRange>& ranges) override;

 private:
  struct Bitmap {
    /// As it will be stored; the table's place is the one in the file.
    BitmapInfo info;
    /// Null as long as nobody asked for the bits.
    std::unique_ptr<BitmapContent> content;
    bool records_writes() const { return info.is_auto && !info.is_in_use; }
  };

  BitmapGeometry geometry_of(const BitmapInfo& info) const;
  /// The bits, loaded when they are not.
  Task<Result<BitmapContent*>> content_of(Bitmap& bitmap);
  enum class Concerned : uint8_t { kRecording, kAll };
  Task<Result<void>> mark_in_use(Concerned concerned);
  /// Writes bits out when there are too many in memory, of all bitmaps together.
  Task<Result<void>> set(BitmapContent& content, GuestRange range);
  Task<Result<void>> write_tables();
  Task<Result<BitmapsExtension>> write_directory();
  Task<Result<void>> point_to(std::optional<BitmapsExtension> extension);
  Task<Result<void>> free_released();
  HostClusters directory_place(const BitmapsExtension& extension) const;
  bool is_changed() const;

  Header& header_;
  TableIo& io_;
  CoMutex& mutex_;
  Writer* writer_ = nullptr;
  std::vector<Bitmap> bitmaps_;
  /// What the directory in the file says.
  std::vector<BitmapInfo> stored_;
  /// Of all contents: tables, and bits.
  uint64_t table_bytes_ = 0;
  uint64_t loaded_bytes_ = 0;
  /// Bitmaps were added, removed, or changed apart from their bits.
  bool is_directory_changed_ = false;
  bool is_marked_in_use_ = false;
  bool is_resizing_ = false;
  /// Of bitmaps that were removed.
  std::vector<HostClusters> released_;
};

}  // namespace imgconv::qcow2
