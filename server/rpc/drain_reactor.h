#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/broker/broker.h"
#include "server/rpc/call_counts.h"
#include "server/rpc/stream_registry.h"
#include "server/rpc/subscribe_reactor.h"

namespace broker {

// The server side of one Drain stream: says how much is left, until nothing is.
//
//   started --- reports ---> none left: the last report and OK
//      |           +-------> cancelled, undrained, shutdown, not taken for too long ---+
//      +--- refused -------------------------------------------------------------------+--> Finish
//
// It only looks on: the drain is ordered before it starts and stays when it ends. It is called by
// the registry's timer, and reads what is left each time: once every kLookPeriod.
//
// Lifetime, locks and what is relied on of gRPC are as in SubscribeReactor.
class DrainReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public TimedStream {
 public:
  static constexpr Duration kLookPeriod = std::chrono::milliseconds(100);
  // Reports come no faster than this, but for the first and the last, and no slower than that.
  static constexpr Duration kFastest = std::chrono::seconds(1);
  static constexpr Duration kSlowest = std::chrono::seconds(5);

  // gRPC takes the result; nobody else may delete it.
  static DrainReactor* Start(grpc::CallbackServerContext& context, const StreamContext& shared,
                             std::string namespace_name);
  // A stream that ends at once.
  static DrainReactor* Refuse(grpc::CallbackServerContext& context, const StreamContext& shared,
                              const absl::Status& status);

  // TimedStream:
  MonotonicTime OnTimer(MonotonicTime now) override ABSL_LOCKS_EXCLUDED(mu_);
  void OnShutdown() override ABSL_LOCKS_EXCLUDED(mu_);

  // grpc::ServerWriteReactor:
  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_);
  void OnCancel() override ABSL_LOCKS_EXCLUDED(mu_);
  void OnDone() override;

 private:
  DrainReactor(grpc::CallbackServerContext& context, const StreamContext& shared,
               std::string namespace_name);

  // Writes a report if one is due. Finishes with the last one.
  void ReportLocked(const DrainProgress& progress, MonotonicTime now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Does nothing the second time.
  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  grpc::CallbackServerContext& context_;
  const StreamContext& shared_;
  const CountedCall counted_;
  const std::string namespace_name_;
  std::shared_ptr<DrainReactor> self_;  // Set in Start() and Refuse(), dropped in OnDone().

  Mutex mu_;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool none_left_before_ ABSL_GUARDED_BY(mu_) = false;  // At the last look.
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool done_ ABSL_GUARDED_BY(mu_) = false;         // gRPC is through with it.
  grpc::ByteBuffer message_ ABSL_GUARDED_BY(mu_);  // gRPC's while writing_.
  MonotonicTime last_write_ ABSL_GUARDED_BY(mu_);
  std::optional<DrainProgress> told_ ABSL_GUARDED_BY(mu_);
};

}  // namespace broker
