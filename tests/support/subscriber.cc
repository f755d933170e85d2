#include "tests/support/subscriber.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/support/await.h"

namespace broker {

namespace pb = ::sessionbroker::v1;

pb::SubscribeRequest LifecycleEvents() {
  pb::SubscribeRequest request;
  request.mutable_heartbeat_interval()->set_nanos(100'000'000);
  return request;
}

pb::SubscribeRequest AllEvents() {
  pb::SubscribeRequest request = LifecycleEvents();
  for (int type = 1; type < pb::EventType_ARRAYSIZE; ++type) {
    if (pb::EventType_IsValid(type)) request.add_types(static_cast<pb::EventType>(type));
  }
  return request;
}

Subscriber::Subscriber(const std::shared_ptr<grpc::Channel>& channel,
                       const pb::SubscribeRequest& request, std::chrono::milliseconds deadline)
    : request_(request), stub_(pb::SessionBrokerService::NewStub(channel)) {
  context_.set_deadline(std::chrono::system_clock::now() + deadline);
  context_.set_wait_for_ready(true);
  reader_ = std::thread([this] {
    const auto stream = stub_->Subscribe(&context_, request_);
    pb::SubscribeResponse message;
    while (stream->Read(&message)) Keep(message);
    const grpc::Status status = stream->Finish();
    std::lock_guard<std::mutex> lock(mu_);
    status_ = status;
  });
}

Subscriber::~Subscriber() {
  Cancel();
  reader_.join();
}

void Subscriber::Keep(const pb::SubscribeResponse& message) {
  std::lock_guard<std::mutex> lock(mu_);
  last_message_ = std::chrono::steady_clock::now();
  switch (message.message_case()) {
    case pb::SubscribeResponse::kInitial:
      kinds_ += 'i';
      initial_.insert(initial_.end(), message.initial().sessions().begin(),
                      message.initial().sessions().end());
      break;
    case pb::SubscribeResponse::kSynced:
      kinds_ += 's';
      synced_ = message.synced().revision();
      reached_ = std::max(reached_, *synced_);
      break;
    case pb::SubscribeResponse::kEvents:
      kinds_ += 'e';
      events_.insert(events_.end(), message.events().events().begin(),
                     message.events().events().end());
      for (const pb::Event& event : message.events().events()) {
        reached_ = std::max(reached_, event.revision());
      }
      break;
    case pb::SubscribeResponse::kHeartbeat:
      kinds_ += 'h';
      heartbeats_.push_back(message.heartbeat().revision());
      reached_ = std::max(reached_, heartbeats_.back());
      break;
    case pb::SubscribeResponse::MESSAGE_NOT_SET:
      kinds_ += '?';
      break;
  }
}

std::vector<pb::Session> Subscriber::initial() const {
  std::lock_guard<std::mutex> lock(mu_);
  return initial_;
}

std::vector<pb::Event> Subscriber::events() const {
  std::lock_guard<std::mutex> lock(mu_);
  return events_;
}

std::vector<uint64_t> Subscriber::revisions() const {
  std::lock_guard<std::mutex> lock(mu_);
  std::vector<uint64_t> revisions;
  for (const pb::Event& event : events_) revisions.push_back(event.revision());
  return revisions;
}

std::vector<uint64_t> Subscriber::heartbeats() const {
  std::lock_guard<std::mutex> lock(mu_);
  return heartbeats_;
}

std::string Subscriber::kinds() const {
  std::lock_guard<std::mutex> lock(mu_);
  return kinds_;
}

std::chrono::steady_clock::time_point Subscriber::last_message() const {
  std::lock_guard<std::mutex> lock(mu_);
  return last_message_;
}

uint64_t Subscriber::reached() const {
  std::lock_guard<std::mutex> lock(mu_);
  return reached_;
}

std::optional<uint64_t> Subscriber::synced() const {
  std::lock_guard<std::mutex> lock(mu_);
  return synced_;
}

bool Subscriber::ended() const {
  std::lock_guard<std::mutex> lock(mu_);
  return status_.has_value();
}

std::string Subscriber::Summary() const {
  std::lock_guard<std::mutex> lock(mu_);
  return absl::StrCat(request_.ShortDebugString(), "\n  ", initial_.size(), " initial, ",
                      events_.size(), " events, reached ", reached_, ", messages ", kinds_, ", ",
                      status_.has_value() ? ToText(*status_) : "not ended");
}

grpc::Status Subscriber::Status() {
  if (!AwaitEnded(std::chrono::seconds(60))) {
    return grpc::Status(grpc::StatusCode::UNKNOWN, "the stream has not ended");
  }
  std::lock_guard<std::mutex> lock(mu_);
  return *status_;
}

bool Subscriber::AwaitSynced() const {
  return Await([&] { return synced().has_value() || ended(); }) && synced().has_value();
}

bool Subscriber::AwaitReached(uint64_t revision) const {
  return Await([&] { return reached() >= revision || ended(); }) && reached() >= revision;
}

bool Subscriber::AwaitEvents(size_t count) const {
  const auto come = [&] {
    std::lock_guard<std::mutex> lock(mu_);
    return events_.size() >= count;
  };
  return Await([&] { return come() || ended(); }) && come();
}

bool Subscriber::AwaitHeartbeats(size_t count) const {
  return Await([&] { return heartbeats().size() >= count || ended(); }) &&
         heartbeats().size() >= count;
}

bool Subscriber::AwaitEnded(std::chrono::milliseconds limit) const {
  return Await([&] { return ended(); }, limit);
}

}  // namespace broker
