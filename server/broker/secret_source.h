#pragma once

#include <array>
#include <cstddef>

#include "absl/base/thread_annotations.h"
#include "server/base/mutex.h"
#include "server/session/types.h"

namespace broker {

// Makes lease secrets from the kernel's random generator (getrandom), fetched a page at a time,
// because a system call for each lease would cost as much as the acquire itself.
//
// Thread-safe.
class SecretSource {
 public:
  LeaseSecret Next() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  static constexpr size_t kBatch = 256;

  Mutex mu_;
  std::array<LeaseSecret, kBatch> batch_ ABSL_GUARDED_BY(mu_);
  size_t left_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace broker
