#include "formats/qcow2/units.h"

using namespace imgconv::qcow2;

auto sum(GuestOffset guest, HostOffset host) {
  (void)host;
  return guest + host;  // WRONG because: no match for
  return guest;
}
