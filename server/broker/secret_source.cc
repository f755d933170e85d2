#include "server/broker/secret_source.h"

#include <sys/random.h>

#include <cerrno>

#include "server/base/check.h"

namespace broker {

LeaseSecret SecretSource::Next() {
  MutexLock lock(mu_);
  if (left_ == 0) {
    char* to = reinterpret_cast<char*>(batch_.data());
    for (size_t filled = 0; filled < sizeof(batch_);) {
      // Up to 256 bytes at a time are never cut short by a signal; more may be.
      const ssize_t got = getrandom(to + filled, sizeof(batch_) - filled, 0);
      BROKER_CHECK(got > 0 || errno == EINTR);
      if (got > 0) filled += static_cast<size_t>(got);
    }
    left_ = kBatch;
  }
  LeaseSecret secret = batch_[--left_];
  batch_[left_] = {};  // What was given out is not kept here.
  return secret;
}

}  // namespace broker
