#include "tests/support/event_truth.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
using google::protobuf::util::MessageDifferencer;

// Of a history, how much of it a message shows.
constexpr size_t kShown = 20;

std::string Text(const pb::Event& event) {
  return absl::StrCat(event.revision(), " ", pb::EventType_Name(event.type()), " '",
                      event.session().key(), "' generation ", event.session().generation());
}

bool HasLabels(const pb::Session& session, const pb::SubscribeRequest& request) {
  for (const auto& [name, value] : request.labels()) {
    const auto found = session.labels().find(name);
    if (found == session.labels().end() || found->second != value) return false;
  }
  return true;
}

bool HasKey(const std::string& key, const pb::SubscribeRequest& request) {
  const auto& keys = request.keys();
  return (keys.empty() || std::find(keys.begin(), keys.end(), key) != keys.end()) &&
         absl::StartsWith(key, request.key_prefix());
}

bool HasType(pb::EventType type, const pb::SubscribeRequest& request) {
  if (request.types().empty()) return !IsPinEvent(type);
  return std::find(request.types().begin(), request.types().end(), type) != request.types().end();
}

// The parts that an initial state and an event must agree in.
bool SameSession(const pb::Session& a, const pb::Session& b) {
  return a.generation() == b.generation() && a.state() == b.state() && a.pins() == b.pins() &&
         a.revision() == b.revision() && a.owner() == b.owner() && a.endpoint() == b.endpoint() &&
         std::map<std::string, std::string>(a.labels().begin(), a.labels().end()) ==
             std::map<std::string, std::string>(b.labels().begin(), b.labels().end());
}

// What a discarded session leaves behind.
pb::Session RecordOf(const pb::Session& ended) {
  pb::Session record = ended;
  record.clear_endpoint();
  record.set_state(pb::SESSION_STATE_SUSPENDED);
  record.set_pins(0);
  return record;
}

// One key as its events tell: a live session, a suspended record, both (while it is restored), or
// neither.
class KeyModel {
 public:
  // Empty, or what does not fit.
  std::string Apply(const pb::Event& event) {
    const pb::Session& session = event.session();
    const bool of_live = live_.has_value() && live_->generation() == session.generation();
    if (event.type() == pb::EVENT_TYPE_CREATED) {
      if (live_.has_value()) return "created before the last generation ended";
      if (session.generation() <= newest_) return "created with an old generation";
      newest_ = session.generation();
      live_ = session;
      return "";
    }
    if (event.type() == pb::EVENT_TYPE_REMOVED) {
      if (live_.has_value() || !record_.has_value()) return "no suspended record to remove";
      record_.reset();
      return "";
    }
    if (!of_live) return "of a generation that is not live";
    if (IsPinEvent(event.type())) {
      live_->set_pins(session.pins());
    } else if (event.type() == pb::EVENT_TYPE_ACTIVATED) {
      if (live_->state() != pb::SESSION_STATE_INITIALIZING) return "activated twice";
      live_ = session;
      record_.reset();
    } else {
      End(event);
    }
    return "";
  }
  std::optional<pb::Session> shown() const { return live_.has_value() ? live_ : record_; }

 private:
  void End(const pb::Event& event) {
    live_.reset();
    if (event.type() == pb::EVENT_TYPE_INIT_FAILED) {
      if (record_.has_value()) record_->set_revision(event.revision());
    } else if (event.session().state() == pb::SESSION_STATE_SUSPENDED) {
      record_ = RecordOf(event.session());
    } else {
      record_.reset();
    }
  }

  uint64_t newest_ = 0;
  std::optional<pb::Session> live_;
  std::optional<pb::Session> record_;
};

}  // namespace

bool IsPinEvent(pb::EventType type) {
  return type >= pb::EVENT_TYPE_ACQUIRED && type <= pb::EVENT_TYPE_LEASE_REVOKED;
}

bool IsTerminal(pb::EventType type) {
  return type == pb::EVENT_TYPE_INIT_FAILED || type == pb::EVENT_TYPE_ENDED ||
         type == pb::EVENT_TYPE_EXPIRED || type == pb::EVENT_TYPE_EVICTED;
}

EventTruth::EventTruth(std::vector<pb::Event> events) : events_(std::move(events)) {
  std::map<std::string, KeyModel> models;
  for (const pb::Event& event : events_) {
    const std::string& key = event.session().key();
    KeyModel& model = models[key];
    const std::optional<pb::Session> before = model.shown();
    model.Apply(event);
    Step step = {&event, event.session(), model.shown()};
    // Pin traffic does not carry the labels that filters look at.
    if (IsPinEvent(event.type()) && before.has_value()) step.labelled = *before;
    by_key_[key].push_back(std::move(step));
  }
}

std::string EventTruth::CheckHistory() const {
  std::string complaints;
  std::map<std::string, KeyModel> models;
  std::map<uint64_t, int> ends;
  uint64_t last = 0;
  for (const pb::Event& event : events_) {
    if (event.revision() <= last)
      absl::StrAppend(&complaints, "revision back: ", Text(event), "\n");
    // More than is promised: who gets all types gets every revision. So nothing is missing here.
    if (last != 0 && event.revision() > last + 1) {
      absl::StrAppend(&complaints, "after ", last, " a gap: ", Text(event), "\n");
    }
    last = event.revision();
    const std::string wrong = models[event.session().key()].Apply(event);
    if (!wrong.empty()) absl::StrAppend(&complaints, wrong, ": ", Text(event), "\n");
    if (!IsTerminal(event.type())) continue;
    if (++ends[event.session().generation()] > 1) {
      absl::StrAppend(&complaints, "ended again: ", Text(event), "\n");
    }
  }
  return complaints;
}

std::string EventTruth::CheckOutcome(const std::vector<pb::Session>& sessions) const {
  std::string complaints;
  std::map<std::string, const pb::Session*> listed;
  for (const pb::Session& session : sessions) listed[session.key()] = &session;
  for (const auto& [key, steps] : by_key_) {
    const std::optional<pb::Session>& told = steps.back().after;
    const auto there = listed.find(key);
    if (told.has_value() != (there != listed.end())) {
      absl::StrAppend(&complaints, "'", key, "' is listed or told of, but not both\n");
    } else if (told.has_value() && !SameSession(*told, *there->second)) {
      absl::StrAppend(&complaints, "told ", told->ShortDebugString(), "\n listed ",
                      there->second->ShortDebugString(), "\n");
    }
    if (there != listed.end()) listed.erase(there);
  }
  for (const auto& [key, session] : listed) {
    absl::StrAppend(&complaints, "'", key, "' is listed, and nothing was told of it\n");
  }
  return complaints;
}

std::string EventTruth::CheckStream(const StreamRecord& stream) const {
  std::string complaints;
  std::map<std::string, std::vector<const pb::Event*>> got;
  uint64_t last = 0;
  for (const pb::Event& event : stream.events) {
    if (event.revision() <= last)
      absl::StrAppend(&complaints, "revision back: ", Text(event), "\n");
    last = event.revision();
    got[event.session().key()].push_back(&event);
  }
  std::map<std::string, const pb::Session*> shown;
  for (const pb::Session& session : stream.initial) {
    if (!shown.emplace(session.key(), &session).second) {
      absl::StrAppend(&complaints, "twice in the initial state: '", session.key(), "'\n");
    }
  }
  std::set<std::string> keys;
  for (const auto& [key, steps] : by_key_) keys.insert(key);
  for (const auto& [key, events] : got) keys.insert(key);
  for (const auto& [key, session] : shown) keys.insert(key);
  for (const std::string& key : keys) {
    absl::StrAppend(&complaints,
                    CheckKey(stream, key, shown.count(key) > 0 ? shown[key] : nullptr, got[key]));
  }
  return complaints.empty() ? "" : absl::StrCat(stream.name, ":\n", complaints);
}

// Looks for an instant when the initial state can have been read so that both it and the events are
// right: none is a gap or a repeat.
std::string EventTruth::CheckKey(const StreamRecord& stream, const std::string& key,
                                 const pb::Session* shown,
                                 const std::vector<const pb::Event*>& got) const {
  static const Steps kNone;
  const auto found = by_key_.find(key);
  const Steps& steps = found == by_key_.end() ? kNone : found->second;
  const pb::SubscribeRequest& request = stream.request;
  size_t cut = 0;
  while (cut < steps.size() && steps[cut].event->revision() <= stream.synced) ++cut;
  std::string why;
  for (; cut <= steps.size(); ++cut) {
    std::vector<const pb::Event*> expected;
    for (size_t i = cut; i < steps.size(); ++i) {
      const Step& step = steps[i];
      if (HasKey(key, request) && HasType(step.event->type(), request) &&
          HasLabels(step.labelled, request)) {
        expected.push_back(step.event);
      }
    }
    const bool same = std::equal(
        expected.begin(), expected.end(), got.begin(), got.end(),
        [](const pb::Event* a, const pb::Event* b) { return MessageDifferencer::Equals(*a, *b); });
    const std::optional<pb::Session> there = cut == 0 ? std::nullopt : steps[cut - 1].after;
    const bool to_show = request.send_initial_state() && there.has_value() &&
                         HasKey(key, request) && HasLabels(*there, request);
    const bool same_start =
        to_show == (shown != nullptr) && (!to_show || SameSession(*there, *shown));
    if (same && same_start) return "";
    if (why.empty()) {
      why = absl::StrCat("  '", key, "': expected ", expected.size(), " events, got ", got.size());
      for (size_t i = 0; i < got.size() && i < kShown; ++i) {
        absl::StrAppend(&why, "\n   got ", Text(*got[i]));
      }
      for (size_t i = 0; i < expected.size() && i < kShown; ++i) {
        absl::StrAppend(&why, "\n   expected ", Text(*expected[i]));
      }
      if (shown != nullptr) absl::StrAppend(&why, "\n   shown ", shown->ShortDebugString());
      absl::StrAppend(&why, "\n   synced ", stream.synced, "\n");
    }
    if (!request.send_initial_state()) break;
  }
  return why;
}

const pb::Event* EventTruth::EndOf(const std::string& key, uint64_t generation) const {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  for (const Step& step : found->second) {
    if (IsTerminal(step.event->type()) && step.event->session().generation() == generation) {
      return step.event;
    }
  }
  return nullptr;
}

std::vector<uint64_t> EventTruth::LifecycleAfter(uint64_t revision) const {
  std::vector<uint64_t> revisions;
  for (const pb::Event& event : events_) {
    if (event.revision() > revision && !IsPinEvent(event.type())) {
      revisions.push_back(event.revision());
    }
  }
  return revisions;
}

}  // namespace broker
