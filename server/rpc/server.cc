#include "server/rpc/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/server_credentials.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "server/base/check.h"
#include "server/rpc/connections.h"

namespace broker {
namespace {

constexpr int kMaxRequestBytes = 4 << 20;
constexpr int kMaxMetadataBytes = 8 << 10;
// Heartbeats come this late at the most; events are told of at once.
constexpr Duration kStreamPeriod = std::chrono::milliseconds(20);

constexpr char kSessionServiceName[] = "sessionbroker.v1.SessionBrokerService";
constexpr char kAdminServiceName[] = "sessionbroker.v1.AdminService";

int Milliseconds(Duration duration) {
  return static_cast<int>(duration / std::chrono::milliseconds(1));
}

void SetChannelArguments(const RpcServer::Options& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  // gRPC unpacks a message whole before it looks at its size: 163 KB became 160 MiB. UNIMPLEMENTED.
  for (const grpc_compression_algorithm packed : {GRPC_COMPRESS_DEFLATE, GRPC_COMPRESS_GZIP}) {
    builder.SetCompressionAlgorithmSupportStatus(packed, false);
  }
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  // Our listener does not share its port anyway; this is for whoever adds one of gRPC's own.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // The default is two hours, for which a client that is gone without a word would keep its place.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(options.keepalive_time));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             Milliseconds(options.keepalive_timeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // And the clients may do the same; by default they would be told GOAWAY for it.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             Milliseconds(options.min_client_ping));
}

}  // namespace

RpcServer::RpcServer(const Options& options, Broker& broker, const Clock& raw_clock)
    : broker_(broker),
      raw_clock_(raw_clock),
      store_health_(options.store_health),
      open_calls_(raw_clock),
      streams_(options.max_subscribers, [this] { WakeStreams(); }),
      stream_context_{broker,
                      streams_,
                      open_calls_,
                      raw_clock,
                      options.max_stream_age,
                      options.stream_write_timeout},
      session_service_(broker, open_calls_, stream_context_, pipeline_counts_),
      admin_service_(stream_context_, [this] { TellHealth(); }) {}

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(absl::string_view listen,
                                                            const Options& options, Broker& broker,
                                                            const Clock& raw_clock,
                                                            StallClock& stall_clock) {
  absl::StatusOr<TcpListener> listener = TcpListener::Listen(listen);
  if (!listener.ok()) return listener.status();

  std::unique_ptr<RpcServer> self(new RpcServer(options, broker, raw_clock));
  self->address_ = listener->address();
  self->port_ = ParseHostPort(self->address_)->port;
  // Both are switches of the process, read by the builder.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  SetChannelArguments(options, builder);
  builder.RegisterService(&self->session_service_);
  builder.RegisterService(&self->admin_service_);
  self->acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      grpc::InsecureServerCredentials());
  self->server_ = builder.BuildAndStart();
  if (self->server_ == nullptr) return absl::InternalError("gRPC could not start its server");

  grpc::HealthCheckServiceInterface* health = self->server_->GetHealthCheckService();
  BROKER_CHECK(health != nullptr);
  self->TellHealth();
  if (self->store_health_ != nullptr) self->store_health_->TellTo(health);
  self->stream_thread_ = std::make_unique<PeriodicThread>(
      "streams", kStreamPeriod, [raw = self.get()] { raw->RunStreams(); });
  self->stream_thread_to_wake_ = self->stream_thread_.get();
  broker.SetWakeDispatcher([raw = self.get()] { raw->WakeStreams(); });
  self->watchdog_ = std::make_unique<LoopWatchdog>(
      self->server_->InProcessChannel(grpc::ChannelArguments()), raw_clock, stall_clock);
  const Duration unsent_bound = options.keepalive_time + options.keepalive_timeout;
  self->accept_loop_ = std::make_unique<AcceptLoop>(
      *std::move(listener), raw_clock,
      [acceptor = self->acceptor_.get(), unsent_bound](int listener_fd, int fd) {
        BoundUnsent(fd, unsent_bound);
        grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
        connection.listener_fd = listener_fd;
        connection.fd = fd;
        acceptor->HandleNewConnection(&connection);
      });
  return self;
}

void RpcServer::TellHealth() {
  // A call may come before BuildAndStart has returned.
  if (server_ == nullptr) return;
  // One at a time, so that of an order and its opposite the last one that counts is told last.
  MutexLock lock(health_mu_);
  const bool serving = !broker_.draining_all();
  grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
  for (const char* name : {"", kSessionServiceName}) health->SetServingStatus(name, serving);
  // It goes on: somebody has to be able to take the drain back.
  health->SetServingStatus(kAdminServiceName, true);
}

void RpcServer::AddTo(BrokerSample& sample) const {
  sample.event_loop_lag = watchdog_->lag();
  open_calls_.counts().AddTo(sample);
  pipeline_counts_.AddTo(sample);
  sample.pipelines = streams_.size(StreamKind::kPipeline);
  for (int i = 0; i < kStreamEndCount; ++i) {
    const auto end = static_cast<StreamEnd>(i);
    const absl::string_view name = StreamEndName(end);
    sample.streams_ended.push_back({std::string(name.data(), name.size()), streams_.ends(end)});
  }
}

void RpcServer::RunStreams() {
  broker_.DispatchEvents();
  streams_.RunOnce(raw_clock_.MonotonicNow());
}

void RpcServer::WakeStreams() {
  if (PeriodicThread* thread = stream_thread_to_wake_.load()) thread->Wake();
}

RpcServer::~RpcServer() {
  // Nothing to shut down where Start() gave up half way.
  if (watchdog_ != nullptr) Shutdown(Duration::zero());
}

void RpcServer::Shutdown(Duration grace) {
  if (down_) return;
  down_ = true;
  if (store_health_ != nullptr) store_health_->TellTo(nullptr);
  // Health first, so that who watches it goes elsewhere before calls are refused.
  server_->GetHealthCheckService()->Shutdown();
  broker_.Shutdown();
  streams_.Shutdown();
  accept_loop_.reset();
  watchdog_->Stop();
  // All calls have been answered. The answers still have to go out, and with them the news to who
  // watches health, which nobody counts.
  const Duration drain = std::min(grace * 3 / 4, kMaxDrain);
  open_calls_.AwaitNone(drain);
  std::this_thread::sleep_for(std::min(drain, kMinDrain));
  CloseConnectionsOf(port_);
  server_->Shutdown(raw_clock_.Now().wall);
  server_->Wait();
  broker_.SetWakeDispatcher(nullptr);
  stream_thread_to_wake_ = nullptr;
  stream_thread_.reset();
}

}  // namespace broker
