#pragma once

#include <grpcpp/health_check_service_interface.h>

#include "absl/base/thread_annotations.h"
#include "server/base/mutex.h"
#include "server/store/journal.h"

namespace broker {

// Tells over grpc.health.v1 whether the journal can be written, under a service name of its own: a
// broker whose disk is full still renews, releases and serves what is there, so the whole stays
// SERVING. Says in the log when that changes. Where there is no journal nobody knows the name, as
// any that is none.
//
// Thread-safe. The journal must be closed before this is destroyed.
class StoreHealth {
 public:
  static constexpr char kServiceName[] = "store";

  // Listens to `journal`, before its first write.
  explicit StoreHealth(Journal& journal);

  StoreHealth(const StoreHealth&) = delete;
  StoreHealth& operator=(const StoreHealth&) = delete;

  // Tells `health` from now on, beginning with how it is. Null: nobody.
  void TellTo(grpc::HealthCheckServiceInterface* health) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void TellLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Journal& journal_;
  Mutex mu_;
  grpc::HealthCheckServiceInterface* health_ ABSL_GUARDED_BY(mu_) = nullptr;
};

}  // namespace broker
