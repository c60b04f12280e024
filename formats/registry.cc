#include "formats/registry.h"

#include <algorithm>
#include <array>

#include "formats/qcow2/driver.h"
#include "formats/raw.h"

namespace imgconv {

std::span<const BlockDriver* const> all_drivers() {
  static const std::array<const BlockDriver*, 2> kDrivers = {
      &qcow2_driver(),
      &raw_driver(),
  };
  return kDrivers;
}

const BlockDriver* find_driver(std::string_view name) {
  const auto drivers = all_drivers();
  const auto found = std::find_if(drivers.begin(), drivers.end(), [&](const BlockDriver* driver) {
    return driver->name() == name;
  });
  return found == drivers.end() ? nullptr : *found;
}

const BlockDriver& probe_driver(std::span<const std::byte> head) {
  for (const BlockDriver* driver : all_drivers()) {
    if (driver->probe(head)) return *driver;
  }
  return raw_driver();
}

}  // namespace imgconv
