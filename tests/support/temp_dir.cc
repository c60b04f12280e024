#include "tests/support/temp_dir.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <system_error>

namespace imgconv::test {
namespace {

struct Closer {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using StdioFile = std::unique_ptr<std::FILE, Closer>;

StdioFile open_stdio(const std::string& path, const char* mode) {
  StdioFile file(std::fopen(path.c_str(), mode));
  if (!file) throw std::system_error(errno, std::generic_category(), path);
  return file;
}

}  // namespace

TempDir::TempDir() : path_((std::filesystem::temp_directory_path() / "imgconv-XXXXXX").string()) {
  if (::mkdtemp(path_.data()) == nullptr) {
    throw std::system_error(errno, std::generic_category(), path_);
  }
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::string& path, std::span<const std::byte> bytes) {
  const StdioFile file = open_stdio(path, "wb");
  if (std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size() ||
      std::fflush(file.get()) != 0) {
    throw std::system_error(errno, std::generic_category(), path);
  }
}

std::vector<std::byte> read_file(const std::string& path) {
  const StdioFile file = open_stdio(path, "rb");
  std::vector<std::byte> bytes(std::filesystem::file_size(path));
  if (std::fread(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) {
    throw std::system_error(EIO, std::generic_category(), path);
  }
  return bytes;
}

}  // namespace imgconv::test
