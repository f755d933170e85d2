#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "server/base/clock.h"
#include "server/base/periodic_thread.h"
#include "server/base/stall_clock.h"
#include "server/broker/broker.h"
#include "server/rpc/event_encoding.h"
#include "server/rpc/server.h"
#include "sessionbroker/v1/broker.grpc.pb.h"
#include "tests/support/await.h"
#include "tests/support/call_path.h"

namespace broker {

// A whole broker inside the test, served over TCP on a free port: what main() builds but for the
// metrics, so that a test can look at its numbers from within. What the journal holds is there from
// the beginning; the journal is closed with it, as by a crash.
class BrokerServer {
 public:
  explicit BrokerServer(const Broker::Options& options = Broker::Options(),
                        const RpcServer::Options& rpc_options = RpcServer::Options())
      : broker_(WithEncoder(options), stall_clock_),
        report_(broker_.Recover()),
        closer_{options.journal},
        reaper_("reaper", std::chrono::milliseconds(20), [this] {
          stall_clock_.Tick();
          broker_.RunOnce();
        }) {
    auto server =
        RpcServer::Start("127.0.0.1:0", rpc_options, broker_, system_clock_, stall_clock_);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = NewChannel();
  }

  Broker& broker() { return broker_; }
  const absl::StatusOr<RecoveryReport>& report() const { return report_; }
  RpcServer& server() { return *server_; }
  StallClock& stall_clock() { return stall_clock_; }
  const SystemClock& system_clock() const { return system_clock_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  TableStats Stats(const std::string& name = "default") { return broker_.GetNamespace(name).stats; }

  // With a connection of its own; see NewTestChannel.
  std::shared_ptr<grpc::Channel> NewChannel() const { return NewTestChannel(server_->address()); }

 private:
  static Broker::Options WithEncoder(Broker::Options options) {
    static const ProtoEventEncoder encoder;
    if (options.event_encoder == nullptr) options.event_encoder = &encoder;
    return options;
  }

  struct JournalCloser {
    Journal* journal;
    ~JournalCloser() {
      if (journal != nullptr) journal->Close();
    }
  };

  SystemClock system_clock_;
  StallClock stall_clock_{system_clock_};
  Broker broker_;
  const absl::StatusOr<RecoveryReport> report_;
  const JournalCloser closer_;  // After all that calls the broker.
  PeriodicThread reaper_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

// A context whose call ends by itself if the test is wrong.
inline std::unique_ptr<grpc::ClientContext> NewContext(
    std::chrono::milliseconds deadline = std::chrono::seconds(30)) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + deadline);
  return context;
}

}  // namespace broker
