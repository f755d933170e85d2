// The fake broker's Subscribe: streams as a test scripts them.

#include "tests/support/await.h"
#include "tests/support/fake_broker_service.h"

namespace broker {

void FakeBrokerService::AddStream(Stream stream) {
  std::lock_guard<std::mutex> lock(mu_);
  streams_.push_back(std::move(stream));
}

void FakeBrokerService::AnswerSubscribe(std::function<Stream(const v1::SubscribeRequest&)> answer) {
  std::lock_guard<std::mutex> lock(mu_);
  answer_subscribe_ = std::move(answer);
}

void FakeBrokerService::Publish(const v1::SubscribeResponse& message) {
  std::lock_guard<std::mutex> lock(mu_);
  published_.push_back(message);
}

void FakeBrokerService::EndStreams(const grpc::Status& status) {
  std::lock_guard<std::mutex> lock(mu_);
  stream_ends_.push_back(status);
}

int FakeBrokerService::open_streams() const {
  std::lock_guard<std::mutex> lock(mu_);
  return open_streams_;
}

int FakeBrokerService::ended_streams() const {
  std::lock_guard<std::mutex> lock(mu_);
  return ended_streams_;
}

std::vector<v1::SubscribeRequest> FakeBrokerService::subscriptions() const {
  std::lock_guard<std::mutex> lock(mu_);
  return subscriptions_;
}

grpc::Status FakeBrokerService::Subscribe(grpc::ServerContext* context,
                                          const v1::SubscribeRequest* request,
                                          grpc::ServerWriter<v1::SubscribeResponse>* writer) {
  Stream stream;
  const grpc::Status played = Play("Subscribe", GoneOf(*context), [&] {
    subscriptions_.push_back(*request);
    if (!streams_.empty()) {
      stream = std::move(streams_.front());
      streams_.pop_front();
    } else if (answer_subscribe_) {
      stream = answer_subscribe_(*request);
    } else {
      stream.messages.push_back(SyncedMessage(request->after_revision()));
    }
    return grpc::Status::OK;
  });
  if (!played.ok()) return played;
  for (const v1::SubscribeResponse& message : stream.messages) writer->Write(message);
  if (!stream.end) return StayOpen(*context, *writer);
  std::lock_guard<std::mutex> lock(mu_);
  ++ended_streams_;
  return *stream.end;
}

grpc::Status FakeBrokerService::StayOpen(grpc::ServerContext& context,
                                         grpc::ServerWriter<v1::SubscribeResponse>& writer) {
  std::unique_lock<std::mutex> lock(mu_);
  size_t sent = published_.size();
  const size_t ends_before = stream_ends_.size();
  ++open_streams_;
  const auto something_to_do = [&] {
    std::lock_guard<std::mutex> look(mu_);
    return context.IsCancelled() || published_.size() > sent || stream_ends_.size() > ends_before;
  };
  grpc::Status end = grpc::Status::CANCELLED;
  while (!context.IsCancelled()) {
    if (sent < published_.size()) {
      const v1::SubscribeResponse message = published_[sent++];
      lock.unlock();
      writer.Write(message);
    } else if (stream_ends_.size() > ends_before) {
      end = stream_ends_[ends_before];
      break;
    } else {
      lock.unlock();
      Await(something_to_do);
    }
    lock.lock();
  }
  --open_streams_;
  return end;
}

v1::SubscribeResponse SyncedMessage(uint64_t revision) {
  v1::SubscribeResponse message;
  message.mutable_synced()->set_revision(revision);
  return message;
}

v1::SubscribeResponse HeartbeatMessage(uint64_t revision) {
  v1::SubscribeResponse message;
  message.mutable_heartbeat()->set_revision(revision);
  return message;
}

v1::SubscribeResponse InitialMessage(const std::map<std::string, uint64_t>& sessions) {
  v1::SubscribeResponse message;
  for (const auto& [key, revision] : sessions) {
    v1::Session& session = *message.mutable_initial()->add_sessions();
    session.set_key(key);
    session.set_generation(1);
    session.set_state(v1::SESSION_STATE_ACTIVE);
    session.set_revision(revision);
  }
  return message;
}

v1::SubscribeResponse EventsMessage(const std::vector<uint64_t>& revisions,
                                    const std::string& key) {
  v1::SubscribeResponse message;
  for (const uint64_t revision : revisions) {
    v1::Event& event = *message.mutable_events()->add_events();
    event.set_revision(revision);
    event.set_type(v1::EVENT_TYPE_ACTIVATED);
    event.mutable_session()->set_key(key);
    event.mutable_session()->set_generation(1);
    event.mutable_session()->set_state(v1::SESSION_STATE_ACTIVE);
    event.mutable_session()->set_revision(revision);
  }
  return message;
}

}  // namespace broker
