// PerThread<T>: one T for each thread, made at its first use there and destroyed when the thread
// ends.
//
// What a thread_local object of a class with a destructor would be, except that glibc ends the
// process by abort() when it has no memory to note such a destructor. Those of the main thread are
// not destroyed. For static objects; any thread.
#pragma once

#include <pthread.h>

#include <cassert>

#include "loop/out_of_memory.h"

namespace imgconv {

template <class T>
class PerThread {
 public:
  PerThread() {
    // Fails after a thousand keys. The first 32 need no memory.
    [[maybe_unused]] const int error =
        pthread_key_create(&key_, [](void* value) { delete static_cast<T*>(value); });
    assert(error == 0);
  }
  PerThread(const PerThread&) = delete;
  PerThread& operator=(const PerThread&) = delete;

  /// That of the calling thread.
  T& get() const {
    if (void* const value = pthread_getspecific(key_)) return *static_cast<T*>(value);
    T* const made = new T();
    if (pthread_setspecific(key_, made) != 0) out_of_memory();
    return *made;
  }

 private:
  pthread_key_t key_{};
};

}  // namespace imgconv
