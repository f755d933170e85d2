#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sessionbroker/v1/broker.grpc.pb.h"

namespace broker {

namespace v1 = sessionbroker::v1;

// A broker for the tests of clients: just enough sense to answer calls, and all the trouble that a
// test asks for. A real server on a port of its own, so that a broker that is gone can be had too.
//
// What it does by itself: the first Acquire of a key is told to initialize, later ones are not; a
// request_id that came before gets the same lease; leases are granted for what was asked for (30 s
// unless asked) and never expire; nobody ever waits; Release, End and a failed init end leases.
// Methods go by their names in the proto, "Acquire", "Renew" and so on.
//
// Thread-safe.
class FakeBrokerService final : public v1::SessionBrokerService::Service {
 public:
  FakeBrokerService();
  ~FakeBrokerService() override;

  // "127.0.0.1:PORT"
  std::string endpoint() const;

  // --- trouble ---

  // The next `times` calls get `status` and are not carried out.
  void FailNext(const std::string& method, const grpc::Status& status, int times = 1);
  // The next `times` calls are carried out, and get UNAVAILABLE in place of their answer.
  void LoseAnswers(const std::string& method, int times = 1);
  // Calls get no answer until their client gives up, or Unstall(), which lets them go on.
  void Stall(const std::string& method);
  void Unstall(const std::string& method);
  // `status` is what Renew and Release say of it from now on.
  void EndLease(const std::string& lease_id, v1::LeaseStatus status);
  // What those are handed who are told to initialize `key` from now on; the broker keeps no
  // checkpoint by itself.
  void GiveCheckpoint(const std::string& key, const std::string& data);
  // The broker is gone: calls under way are cut off, new ones find nobody listening...
  void Stop();
  // ...until it is back on the same port, knowing what it knew.
  void Start();

  // --- Subscribe ---

  // What one Subscribe gets: the messages, then `end`; without an end the stream stays open, and
  // gets what is published from then on.
  struct Stream {
    std::vector<v1::SubscribeResponse> messages = {};
    std::optional<grpc::Status> end = {};
  };
  // The next Subscribe that has none yet plays this one. When there are none left a Subscribe gets
  // Synced with the revision that it asked to start after (0 if none), and stays open.
  void AddStream(Stream stream);
  // When there are none left, `answer` makes them.
  void AnswerSubscribe(std::function<Stream(const v1::SubscribeRequest&)> answer);
  // To all streams that are open now.
  void Publish(const v1::SubscribeResponse& message);
  // Ends all streams that are open now.
  void EndStreams(const grpc::Status& status);
  int open_streams() const;
  int ended_streams() const;  // Of those that had an `end`: all of it was handed to gRPC.
  std::vector<v1::SubscribeRequest> subscriptions() const;

  // --- Pipeline ---
  //
  // Each stream is a call of the method "Pipeline": Stall() keeps it from reading. The calls on it
  // are calls of their own methods; those that are stalled hold up no others. There is none if the
  // environment has FAKE_BROKER_WITHOUT_PIPELINE, which is how tests run over unary calls.

  // The stream that reads the next message ends with `status`: nothing of the message was carried
  // out, or all of it was; nothing of it is answered.
  enum class Message { kIgnored, kCarriedOut };
  void EndPipelineAtNextMessage(const grpc::Status& status, Message message);
  // Cancels come too late from now on: the calls are carried out.
  void IgnoreCancels();
  std::vector<v1::PipelineRequest> pipeline_messages() const;

  // --- what happened ---

  // Calls that have come in, whatever became of them.
  int calls(const std::string& method) const;
  int held_leases() const;
  std::vector<v1::AcquireRequest> acquires() const;
  std::vector<v1::ActivateRequest> activations() const;
  std::vector<v1::RenewRequest> renewals() const;
  std::vector<v1::ReleaseRequest> releases() const;
  std::vector<v1::CheckpointRequest> checkpoints() const;

  // --- v1::SessionBrokerService::Service ---

  grpc::Status Acquire(grpc::ServerContext* context, const v1::AcquireRequest* request,
                       v1::AcquireResponse* response) override {
    return DoAcquire(GoneOf(*context), request, response);
  }
  grpc::Status Activate(grpc::ServerContext* context, const v1::ActivateRequest* request,
                        v1::ActivateResponse* response) override {
    return DoActivate(GoneOf(*context), request, response);
  }
  grpc::Status Renew(grpc::ServerContext* context, const v1::RenewRequest* request,
                     v1::RenewResponse* response) override {
    return DoRenew(GoneOf(*context), request, response);
  }
  grpc::Status Checkpoint(grpc::ServerContext* context, const v1::CheckpointRequest* request,
                          v1::CheckpointResponse* response) override {
    return DoCheckpoint(GoneOf(*context), request, response);
  }
  grpc::Status Release(grpc::ServerContext* context, const v1::ReleaseRequest* request,
                       v1::ReleaseResponse* response) override {
    return DoRelease(GoneOf(*context), request, response);
  }
  grpc::Status End(grpc::ServerContext* context, const v1::EndRequest* request,
                   v1::EndResponse* response) override {
    return DoEnd(GoneOf(*context), request, response);
  }
  grpc::Status GetSession(grpc::ServerContext* context, const v1::GetSessionRequest* request,
                          v1::GetSessionResponse* response) override;
  grpc::Status Subscribe(grpc::ServerContext* context, const v1::SubscribeRequest* request,
                         grpc::ServerWriter<v1::SubscribeResponse>* writer) override;
  grpc::Status Pipeline(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::PipelineResponse, v1::PipelineRequest>* stream) override;

 private:
  // Whether nobody waits for a call any more.
  using Gone = std::function<bool()>;
  class PipelineCalls;  // Those of one stream.

  struct LeaseRecord {
    std::string key;
    v1::LeaseStatus status = v1::LEASE_STATUS_HELD;
    v1::AcquireResponse response;
  };
  struct Script {
    int calls = 0;
    int failures = 0;
    grpc::Status failure;
    int lost_answers = 0;
    bool stalled = false;
  };

  static Gone GoneOf(grpc::ServerContext& context);
  grpc::Status DoAcquire(const Gone& gone, const v1::AcquireRequest* request,
                         v1::AcquireResponse* response);
  grpc::Status DoActivate(const Gone& gone, const v1::ActivateRequest* request,
                          v1::ActivateResponse* response);
  grpc::Status DoRenew(const Gone& gone, const v1::RenewRequest* request,
                       v1::RenewResponse* response);
  grpc::Status DoCheckpoint(const Gone& gone, const v1::CheckpointRequest* request,
                            v1::CheckpointResponse* response);
  grpc::Status DoRelease(const Gone& gone, const v1::ReleaseRequest* request,
                         v1::ReleaseResponse* response);
  grpc::Status DoEnd(const Gone& gone, const v1::EndRequest* request, v1::EndResponse* response);
  v1::PipelineResult DoPipelined(const Gone& gone, const v1::PipelineCall& call);
  bool IsStalled(const std::string& method) const;

  // Counts the call and plays the script; then, if that lets it, `carry_out` with mu_ held.
  grpc::Status Play(const std::string& method, const Gone& gone,
                    const std::function<grpc::Status()>& carry_out);
  void EndLeasesLocked(const std::string& key, v1::LeaseStatus status);
  // Sends what is published until the stream is ended or its client goes.
  grpc::Status StayOpen(grpc::ServerContext& context,
                        grpc::ServerWriter<v1::SubscribeResponse>& writer);

  const bool has_pipeline_;

  mutable std::mutex mu_;  // Guards all that follows.
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::map<std::string, Script> scripts_;
  std::map<std::string, v1::Session> sessions_;           // By key.
  std::map<std::string, LeaseRecord> leases_;             // By id.
  std::map<std::string, std::string> leases_by_request_;  // Lease id by request_id.
  uint64_t next_number_ = 1;                              // Of generations, tokens and lease ids.
  std::vector<v1::AcquireRequest> acquires_;
  std::vector<v1::ActivateRequest> activations_;
  std::vector<v1::RenewRequest> renewals_;
  std::vector<v1::ReleaseRequest> releases_;
  std::vector<v1::CheckpointRequest> checkpoints_;
  std::map<std::string, std::string> given_checkpoints_;  // By key.
  std::vector<v1::SubscribeRequest> subscriptions_;
  std::deque<Stream> streams_;  // Not played yet.
  std::function<Stream(const v1::SubscribeRequest&)> answer_subscribe_;
  std::vector<v1::PipelineRequest> pipeline_messages_;
  std::optional<std::pair<grpc::Status, Message>> pipeline_end_;
  bool ignore_cancels_ = false;
  int open_streams_ = 0;
  int ended_streams_ = 0;
  std::vector<v1::SubscribeResponse> published_;
  std::vector<grpc::Status> stream_ends_;  // Of EndStreams.
};

// Messages of a stream.
v1::SubscribeResponse SyncedMessage(uint64_t revision);
v1::SubscribeResponse HeartbeatMessage(uint64_t revision);
// Of sessions with these keys, each changed last at its revision.
v1::SubscribeResponse InitialMessage(const std::map<std::string, uint64_t>& sessions);
// Of ACTIVATED events of `key`, in generation 1, with these revisions.
v1::SubscribeResponse EventsMessage(const std::vector<uint64_t>& revisions,
                                    const std::string& key = "a");

// UNAVAILABLE, as a connection that broke gives it.
grpc::Status UnavailableStatus();

// An error as the broker sends it: code and message, and ErrorInfo, RetryInfo and BadRequest as far
// as they are given, in google.rpc details.
struct BrokerError {
  grpc::StatusCode code = grpc::StatusCode::INTERNAL;
  std::string message = {};
  std::string reason = {};
  std::map<std::string, std::string> metadata = {};
  int retry_after_seconds = 0;
  std::string field = {};
};
grpc::Status MakeBrokerError(const BrokerError& error);

}  // namespace broker
