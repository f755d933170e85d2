// Must not compile: thread_safety_is_checked sees to it.
#include "absl/base/thread_annotations.h"
#include "server/base/mutex.h"

namespace broker {

struct Unguarded {
  int Read() { return guarded; }

  Mutex mu;
  int guarded ABSL_GUARDED_BY(mu) = 0;
};

}  // namespace broker
