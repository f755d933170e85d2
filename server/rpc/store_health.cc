#include "server/rpc/store_health.h"

namespace broker {

StoreHealth::StoreHealth(Journal& journal) : journal_(journal) {
  journal.SetHealthListener([this](bool) {
    MutexLock lock(mu_);
    TellLocked();
  });
}

void StoreHealth::TellTo(grpc::HealthCheckServiceInterface* health) {
  MutexLock lock(mu_);
  health_ = health;
  TellLocked();
}

void StoreHealth::TellLocked() {
  // Asked under the lock, so that of two who tell at once the later one tells what is newer.
  if (health_ != nullptr) health_->SetServingStatus(kServiceName, journal_.healthy());
}

}  // namespace broker
