#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <atomic>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/periodic_thread.h"
#include "server/base/stall_clock.h"
#include "server/broker/broker.h"
#include "server/metrics/sample.h"
#include "server/rpc/accept_loop.h"
#include "server/rpc/admin_service.h"
#include "server/rpc/loop_watchdog.h"
#include "server/rpc/open_calls.h"
#include "server/rpc/pipeline_counts.h"
#include "server/rpc/session_service.h"
#include "server/rpc/store_health.h"
#include "server/rpc/stream_registry.h"
#include "server/rpc/subscribe_reactor.h"

namespace broker {

// The gRPC server with everything on it: both services, health (of the whole, per service, and of
// the store),
// reflection, the accept loop, the watchdog of the event loop.
//
//   serving --- Shutdown() ---> health says NOT_SERVING, waiters are told, calls are finished --->
//   down
//
// Limits, here and not in flags because clients rely on them: messages of 4 MiB, metadata of 8 KiB.
//
// Thread-safe, but for Shutdown(), which one thread calls. Everything passed in must outlive it.
class RpcServer {
 public:
  struct Options {
    // A connection on which nothing came for keepalive_time is pinged, and closed when there is no
    // answer within keepalive_timeout: what is gone without a word is noticed within the sum.
    Duration keepalive_time = std::chrono::seconds(20);
    Duration keepalive_timeout = std::chrono::seconds(8);
    // Clients may ping as often, without calls too; who does it more often, again and again, is
    // told so (GOAWAY, "too_many_pings").
    Duration min_client_ping = std::chrono::seconds(5);
    // Subscribe streams of the whole broker.
    uint32_t max_subscribers = 20'000;
    Duration max_stream_age = std::chrono::hours(1);
    // See StreamContext.
    Duration stream_write_timeout = std::chrono::seconds(30);
    // Told where health is asked for, while the server runs. Null: there is no store.
    StoreHealth* store_health = nullptr;
  };

  // How long is waited for answers to go out, once all have been given, at the most and at the
  // least; see Shutdown().
  static constexpr Duration kMaxDrain = std::chrono::seconds(2);
  static constexpr Duration kMinDrain = std::chrono::milliseconds(100);

  // Serves on `listen` ("ADDRESS:PORT"; port 0: any free one). Errors are TcpListener's.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(absl::string_view listen,
                                                          const Options& options, Broker& broker,
                                                          const Clock& raw_clock,
                                                          StallClock& stall_clock);
  // Shuts down with no grace, unless that was done.
  ~RpcServer();

  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  // Where it listens, with the real port.
  const std::string& address() const { return address_; }
  // May be asked after Shutdown(), too.
  const LoopWatchdog& watchdog() const { return *watchdog_; }
  const StreamRegistry& streams() const { return streams_; }
  // Puts in what the server knows. Until Shutdown() has returned.
  void AddTo(BrokerSample& sample) const;

  // Turns health to NOT_SERVING, has the broker refuse what comes and answer what waits, ends all
  // streams, accepts no more connections, and gives the answers three quarters of `grace`, at most
  // kMaxDrain, to go out. Then closes the connections: whatever still comes finds the broker gone
  // (UNAVAILABLE).
  void Shutdown(Duration grace);

 private:
  RpcServer(const Options& options, Broker& broker, const Clock& raw_clock);

  // Whether it serves: not while the whole broker is drained.
  void TellHealth() ABSL_LOCKS_EXCLUDED(health_mu_);
  void RunStreams();
  void WakeStreams();

  Broker& broker_;
  const Clock& raw_clock_;
  StoreHealth* const store_health_;
  OpenCalls open_calls_;
  Mutex health_mu_;
  // The thread that tells streams of events and of the time, which is more than a gRPC thread or
  // the reaper should have to wait for. Null before it runs and after.
  std::atomic<PeriodicThread*> stream_thread_to_wake_ = nullptr;
  StreamRegistry streams_;
  const StreamContext stream_context_;
  PipelineCounts pipeline_counts_;
  SessionService session_service_;
  AdminService admin_service_;
  std::string address_;
  uint16_t port_ = 0;
  bool down_ = false;

  // In the order in which they are built; taken down in reverse.
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<LoopWatchdog> watchdog_;
  std::unique_ptr<AcceptLoop> accept_loop_;
  std::unique_ptr<PeriodicThread> stream_thread_;
};

}  // namespace broker
