#include "formats/qcow2/image_info.h"

#include <utility>

namespace imgconv::qcow2 {

namespace {

InfoValue text(std::string value) { return InfoValue{std::move(value)}; }
InfoValue boolean(bool value) { return InfoValue{value}; }
InfoValue number(uint64_t value) { return InfoValue{value}; }

InfoValue bitmap_list(std::span<const BitmapInfo> bitmaps) {
  InfoValue::Array list;
  for (const BitmapInfo& bitmap : bitmaps) {
    InfoValue::Array flags;
    if (bitmap.is_in_use) flags.push_back(text("in-use"));
    if (bitmap.is_auto) flags.push_back(text("auto"));
    InfoValue::Object entry;
    entry.emplace_back("flags", InfoValue{std::move(flags)});
    entry.emplace_back("name", text(bitmap.name));
    entry.emplace_back("granularity", number(bitmap.granularity));
    list.push_back(InfoValue{std::move(entry)});
  }
  return InfoValue{std::move(list)};
}

InfoValue specific_info(const Header& header, std::span<const BitmapInfo> bitmaps) {
  InfoValue::Object data;
  data.emplace_back("compat", text(header.version < 3 ? "0.10" : "1.1"));
  data.emplace_back("compression-type", text(header.compression == Codec::kZstd ? "zstd" : "zlib"));
  if (header.version >= 3)
    data.emplace_back("lazy-refcounts", boolean(header.has_lazy_refcounts()));
  if (!bitmaps.empty()) data.emplace_back("bitmaps", bitmap_list(bitmaps));
  data.emplace_back("refcount-bits", number(header.refcount_bits()));
  if (header.version >= 3) {
    if (header.extensions.data_file) {
      data.emplace_back("data-file", text(*header.extensions.data_file));
    }
    if (header.has_data_file()) {
      data.emplace_back("data-file-raw", boolean(header.is_data_file_raw()));
    }
    data.emplace_back("corrupt", boolean(header.is_corrupt()));
    data.emplace_back("extended-l2", boolean(header.has_extended_l2()));
  }
  if (header.is_encrypted()) {
    InfoValue::Object encrypt;
    encrypt.emplace_back("format",
                         text(header.crypt_method == CryptMethod::kLuks ? "luks" : "aes"));
    data.emplace_back("encrypt", InfoValue{std::move(encrypt)});
  }
  return InfoValue{std::move(data)};
}

}  // namespace

ImageInfo make_image_info(const Header& header, std::span<const Snapshot> snapshots,
                          std::span<const BitmapInfo> bitmaps) {
  ImageInfo info;
  info.format = "qcow2";
  info.virtual_size = header.guest_size();
  info.cluster_size = header.cluster_size();
  info.subcluster_size = header.subcluster_size();
  info.backing_file = header.backing_file;
  if (!header.backing_file.empty()) {
    info.backing_format = header.extensions.backing_format.value_or(std::string());
  }
  info.is_encrypted = header.is_encrypted();
  info.is_dirty = header.is_dirty();
  for (const Snapshot& snapshot : snapshots) info.snapshots.push_back(snapshot.info);
  info.specific = specific_info(header, bitmaps);
  return info;
}

}  // namespace imgconv::qcow2
