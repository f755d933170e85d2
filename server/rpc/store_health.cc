#include "server/rpc/store_health.h"

#include "server/base/log.h"

namespace broker {
namespace {

// With how often which kind of failure was seen so far, which tells a full disk from a broken one.
void LogHealth(const Journal& journal, bool healthy) {
  const auto failures = [stats = journal.Stats()](StoreFailure kind) {
    return stats.failures[static_cast<size_t>(kind)];
  };
  Log(healthy ? LogLevel::kInfo : LogLevel::kError,
      healthy ? "the store can be written again"
              : "the store cannot be written: what needs it is refused, nothing is taken away",
      {{"failures_full", failures(StoreFailure::kFull)},
       {"failures_io", failures(StoreFailure::kIo)},
       {"failures_sync", failures(StoreFailure::kSync)},
       {"failures_corrupt", failures(StoreFailure::kCorrupt)},
       {"failures_other", failures(StoreFailure::kOther)}});
}

}  // namespace

StoreHealth::StoreHealth(Journal& journal) : journal_(journal) {
  // The journal tries again less and less often while it fails, so that these lines are few.
  journal.SetHealthListener([this](bool healthy) {
    LogHealth(journal_, healthy);
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
