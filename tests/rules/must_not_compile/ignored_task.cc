#include "loop/task.h"

imgconv::Task<int> copy();

void caller() {
  copy();  // WRONG because: nodiscard
}
