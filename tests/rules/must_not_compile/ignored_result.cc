#include "loop/result.h"

imgconv::Result<int> measure();

void caller() {
  measure();  // WRONG because: nodiscard
}
