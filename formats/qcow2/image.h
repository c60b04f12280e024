// Qcow2Image: one open qcow2 image as an Image: the front of L2Tables (where is it?) and Writer
// (how does it change?), which it owns together with the files. One task at a time gets past its
// mutex, so that the parts behind it need not expect each other. Loop thread only.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/driver.h"
#include "formats/image.h"
#include "formats/qcow2/bitmaps.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/l2_tables.h"
#include "formats/qcow2/snapshot.h"
#include "formats/qcow2/table_io.h"
#include "formats/qcow2/writer.h"
#include "loop/co_mutex.h"

namespace imgconv::qcow2 {

class Qcow2Image final : public Image {
 public:
  /// What open() found out.
  struct Parts {
    std::unique_ptr<File> file;
    /// Null unless there is an external data file and it is needed.
    std::unique_ptr<File> data_file;
    Header header;
    std::vector<Snapshot> snapshots;
    std::vector<BitmapInfo> bitmaps;
    ImageInfo info;
    Executor* executor = nullptr;
    /// Null: nobody wants to read of damage.
    std::function<void(const std::string&)> remark;
  };

  /// Every check of QEMU's open, in its order (QCOW2.md 1).
  static Task<Result<std::unique_ptr<Image>>> open(std::unique_ptr<File> file,
                                                   OpenImageOptions options);

  explicit Qcow2Image(Parts parts);

  const ImageInfo& info() const override { return parts_.info; }
  File& file() override { return *parts_.file; }
  std::vector<File*> files() override;
  Task<Result<ExtentList>> map(uint64_t guest_offset, uint64_t length) override;
  Task<Result<void>> load_snapshot(const std::string& id_or_name) override;
  Task<Result<CheckReport>> check(const CheckSink& sink) override;
  Task<Result<CheckReport>> repair(RepairMode mode, const CheckSink& sink) override;
  BitmapStore* bitmaps() override { return &bitmaps_; }

  Task<Result<std::vector<HostRun>>> reserve(uint64_t guest_offset, uint64_t length) override;
  Task<Result<void>> link(uint64_t guest_offset, uint64_t length) override;
  Task<Result<void>> write_zeroes(uint64_t guest_offset, uint64_t length, bool may_unmap) override;
  std::optional<CompressionInfo> compression() const override;
  Task<Result<HostRun>> reserve_compressed(uint64_t guest_offset, uint64_t payload) override;
  void set_backing_reader(BackingReader reader) override;
  bool reads_as_zeros_initially() const override;
  bool holds_clusters() const override { return tables_.has_any_table(); }
  Task<Result<void>> resize(const ResizeRequest& request) override;
  Task<Result<void>> create_snapshot(const SnapshotInfo& info) override;
  Task<Result<void>> apply_snapshot(const std::string& id_or_name) override;
  Task<Result<void>> delete_snapshot(const std::string& name) override;
  Task<Result<void>> amend(const AmendRequest& request) override;
  Task<Result<void>> flush(bool sync) override;
  Task<Result<void>> change_backing(const std::string& name, const std::string& format) override;
  Task<Result<void>> mark_complete() override;
  Task<Result<void>> make_empty() override;
  Task<Result<void>> close() override;

 private:
  Task<Result<void>> load_tables(const OpenImageOptions& options);
  /// Of an image whose last writer did not close it.
  Task<Result<void>> repair_dirty_image();
  Task<Result<void>> start_writing();
  /// After an operation: what it found damaged is said, and info() tells the size and the snapshots
  /// there are now.
  Task<Result<void>> finish_operation(Result<void> result);
  Task<Result<void>> map_tables(uint64_t guest_offset, uint64_t guest_end, ExtentList& extents);
  Task<bool> detect_preallocation();
  /// To be called before the guest's bytes in the range change.
  Task<Result<void>> record_write(uint64_t guest_offset, uint64_t length);
  /// Says what is damaged, once for an image; the error that is left says only that it failed. An
  /// image that is open for writing is marked corrupt, and is of no more use to anybody.
  Task<Error> remark(Error error);
  Task<Result<void>> write_incompatible_features();
  /// ENOMEDIUM after remark() gave the image up.
  Result<void> check_usable() const;
  File& data_file() { return parts_.data_file ? *parts_.data_file : *parts_.file; }
  const Header& header() const { return parts_.header; }

  Parts parts_;
  TableIo io_;
  L2Tables tables_;
  /// Null when opened for reading.
  std::unique_ptr<Writer> writer_;
  /// Protects the tables, the writer, the bitmaps and the caches under them, across suspensions.
  CoMutex mutex_;
  Bitmaps bitmaps_;
  bool has_remarked_ = false;
  bool is_given_up_ = false;
  /// Is the file's allocation asked for where data is? Unknown before the first map().
  std::optional<bool> has_preallocated_metadata_;
};

}  // namespace imgconv::qcow2
