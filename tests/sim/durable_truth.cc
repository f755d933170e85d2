#include "tests/sim/durable_truth.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace broker::sim {

using State = TrueGeneration::State;

std::string Truth::CheckpointOf(uint64_t number) { return absl::StrCat("checkpoint ", number); }

uint64_t Truth::NumberOf(absl::string_view checkpoint) {
  uint64_t number = 0;
  if (!absl::ConsumePrefix(&checkpoint, "checkpoint ")) return 0;
  return absl::SimpleAtoi(checkpoint, &number) ? number : 0;
}

bool Truth::IsActiveOnDisk(const std::string& key, uint64_t generation) const {
  const DurableDisk::Stored* stored = disk_.Find(key);
  return stored != nullptr && !stored->record.suspended && stored->record.generation == generation;
}

bool Truth::IsSuspendedOnDisk(const std::string& key, uint64_t generation) const {
  const DurableDisk::Stored* stored = disk_.Find(key);
  return stored != nullptr && stored->record.suspended && stored->record.generation == generation;
}

std::string Truth::Encode(const EventInfo& event) const {
  events_.push_back(absl::StrCat(event.revision, " ", EventTypeName(event.type), " ",
                                 event.session.key, "/", event.session.generation,
                                 event.holder.empty() ? "" : " ", event.holder));
  OnEvent(event);
  return "";
}

void Truth::Forget(TrueKey& key, uint64_t generation) const {
  key.live = key.record = key.checkpoint = 0;
  key.forgotten = std::max(key.forgotten, generation);
}

void Truth::OnEvent(const EventInfo& event) const {
  const std::string& name = event.session.key;
  const uint64_t number = event.session.generation;
  const std::string what = events_.back();
  // G03 F08
  if (event.revision <= revision_) Fail(absl::StrCat("a revision that does not grow: ", what));
  revision_ = std::max(revision_, event.revision);
  TrueKey& key = keys_[name];
  if (event.type == EventType::kCreated) {
    // G03 C01
    if (number <= key.newest) Fail(absl::StrCat("a generation that does not grow: ", what));
    if (key.live != 0) Fail(absl::StrCat("another one lives: ", what));
    key.live = key.newest = number;
    generations_[number] = {name,           State::kInitializing, event.time, key.record != 0,
                            key.checkpoint, key.forgotten,        false};
    return;
  }
  auto it = generations_.find(number);
  if (it == generations_.end()) return Fail(absl::StrCat("of no generation: ", what));
  TrueGeneration& generation = it->second;
  if (event.type == EventType::kRemoved) {  // D11
    if (key.live != 0 || key.record != number) Fail(absl::StrCat("no such record: ", what));
    if (disk_.Find(name) != nullptr) Fail(absl::StrCat("before it is durable: ", what));
    return Forget(key, number);
  }
  // D05 D09: nothing after the end, and nothing of one that was replaced.
  if (key.live != number || generation.state == State::kOver) {
    return Fail(absl::StrCat("of a generation that is over: ", what));
  }
  const auto expect = [&](bool right) {
    if (!right) Fail(absl::StrCat("not from this state: ", what));
  };
  const auto durable = [&](bool right) {  // F01
    if (!right) Fail(absl::StrCat("before it is durable: ", what));
  };
  switch (event.type) {
    case EventType::kActivated:
      expect(generation.state == State::kInitializing);
      durable(IsActiveOnDisk(name, number));
      generation.state = State::kActive;
      key.record = 0;
      key.owner = event.session.owner;
      key.labels = event.session.labels;
      break;
    case EventType::kCheckpointed:
      expect(generation.state != State::kInitializing);
      durable(disk_.Find(name) != nullptr && disk_.Find(name)->record.checkpoint.has_value());
      break;
    case EventType::kSuspending:
      expect(generation.state == State::kActive);
      generation.state = State::kSuspending;
      on_taken_(number);  // B01
      break;
    case EventType::kSuspendAborted:
      expect(generation.state == State::kSuspending);
      generation.state = State::kActive;
      break;
    case EventType::kAcquired:  // A11
      expect(generation.state != State::kSuspending);
      if (generation.state == State::kActive && disk_.IsEnding(name)) {
        Fail(absl::StrCat("on what is going away: ", what));
      }
      break;
    case EventType::kReleased:
    case EventType::kLeaseExpired:
    case EventType::kLeaseRevoked:
      break;
    case EventType::kInitFailed:
      expect(generation.state == State::kInitializing);
      generation.state = State::kOver;
      key.live = 0;
      break;
    case EventType::kSuspended:
      expect(generation.state == State::kSuspending);
      durable(IsSuspendedOnDisk(name, number));
      generation.state = State::kOver;
      key.live = 0;
      key.record = number;
      break;
    case EventType::kExpired:
    case EventType::kEvicted:
      on_taken_(number);  // B01
      [[fallthrough]];
    case EventType::kEnded:
      generation.state = State::kOver;
      if (event.session.state == SessionState::kSuspended) {  // Discarded.
        durable(IsSuspendedOnDisk(name, number));
        key.live = 0;
        key.record = number;
        break;
      }
      durable(disk_.Find(name) == nullptr);
      if (event.reason == "max_lifetime") on_taken_(number);  // B01
      Forget(key, number);
      break;
    default:
      Fail(absl::StrCat("an event of no kind: ", what));
  }
}

void Truth::OnMutation(const Mutation& mutation) {
  if (const auto* put = std::get_if<PutSession>(&mutation.what)) {
    const SessionRecord& record = put->record;
    auto it = generations_.find(record.generation);
    if (it == generations_.end()) return Fail("a record of no generation");
    TrueGeneration& generation = it->second;
    const DurableDisk::Stored* stored = disk_.Find(record.key);
    const bool same = stored != nullptr && stored->record.generation == record.generation;
    const std::string what = absl::StrCat(record.key, "/", record.generation);
    // G01: what was on the disk and is not any more does not come back.
    if (generation.written && (!same || stored->record.suspended)) {
      Fail(absl::StrCat("written again after its end: ", what));
    }
    if (!generation.written && record.suspended) {
      Fail(absl::StrCat("suspended and never active: ", what));
    }
    if (!generation.written && stored != nullptr && !stored->record.suspended) {
      Fail(absl::StrCat("written over one that lives: ", what));
    }
    if (stored != nullptr && stored->record.generation > record.generation) {  // G03
      Fail(absl::StrCat("written over a newer one: ", what));
    }
    if (same && (record.dead_through < stored->record.dead_through ||
                 record.used_exclusively < stored->record.used_exclusively)) {  // G06
      Fail(absl::StrCat("what was known of its leases is lost: ", what));
    }
    generation.written = true;
  } else if (const auto* checkpoint = std::get_if<PutCheckpoint>(&mutation.what)) {
    const DurableDisk::Stored* stored = disk_.Find(checkpoint->key);
    const uint64_t generation = checkpoint->checkpoint.info.generation;
    // D09
    if (stored != nullptr && stored->record.generation != generation) {
      Fail(absl::StrCat("a checkpoint of ", checkpoint->key, "/", generation,
                        " reaches another generation"));
    }
  }
}

void Truth::OnRestart() {
  for (auto& [name, key] : keys_) RestartKey(name, key);
}

// What was acknowledged is there; what was handed in may be (G01).
void Truth::RestartKey(const std::string& name, TrueKey& key) {
  const DurableDisk::Stored* stored = disk_.Find(name);
  if (key.live != 0) generations_.at(key.live).state = State::kOver;
  if (stored == nullptr) {  // As it was, or its end was on its way. An init is forgotten (G04).
    return Forget(key, std::max(key.forgotten, key.newest));
  }
  const uint64_t number = stored->record.generation;
  if (number <= key.forgotten) {
    Fail(absl::StrCat("it was ended and is back: ", name, "/", number));
  }
  const uint64_t before = std::exchange(key.live, 0);
  if (stored->record.suspended) {
    if (number != before && number != key.record) {
      Fail(absl::StrCat("suspended as something else: ", name, "/", number));
    }
    key.record = number;
  } else {
    if (number != before) Fail(absl::StrCat("another one is active: ", name, "/", number));
    generations_.at(number).state = State::kActive;
    key.live = number;
    key.record = 0;
  }
  uint64_t found = 0;
  if (stored->record.checkpoint.has_value()) found = NumberOf(stored->checkpoint);
  if (found < key.checkpoint) {
    Fail(
        absl::StrCat(name, "/", number, " has checkpoint ", found, " instead of ", key.checkpoint));
  }
  key.checkpoint = found;
  key.owner = stored->record.owner;
  key.labels = stored->record.labels;
}

void Truth::OnActivated(uint64_t number, const SessionInfo& info, uint64_t checkpoint) {
  auto it = generations_.find(number);
  if (it == generations_.end() || it->second.state == State::kInitializing ||
      it->second.state == State::kOver || !IsActiveOnDisk(info.key, number)) {
    return Fail(absl::StrCat("told that it is active: ", info.key, "/", number));
  }
  if (checkpoint != 0) OnCheckpointed(info.key, number, checkpoint);
}

void Truth::OnCheckpointed(const std::string& name, uint64_t generation, uint64_t number) {
  const DurableDisk::Stored* stored = disk_.Find(name);
  if (stored == nullptr || stored->record.generation != generation ||
      stored->checkpoint != CheckpointOf(number)) {
    Fail(absl::StrCat("told that checkpoint ", number, " of ", name, " is durable"));
  }
  keys_[name].checkpoint = std::max(keys_[name].checkpoint, number);
}

void Truth::OnSuspended(const std::string& name, const SessionInfo& info) {
  if (info.state != SessionState::kSuspended || !IsSuspendedOnDisk(name, info.generation)) {
    Fail(absl::StrCat("told that it is suspended: ", name, "/", info.generation));
  }
}

void Truth::OnDiscarded(const std::string& name) {
  const TrueKey& key = keys_[name];
  if (key.record == 0 || !IsSuspendedOnDisk(name, key.record)) {
    Fail(absl::StrCat("told that it is discarded: ", name));
  }
}

void Truth::OnEnded(const std::string& name, const EndOutcome& outcome) {
  if (disk_.Find(name) != nullptr) Fail(absl::StrCat("told that it is ended: ", name));
  if (outcome.ended && outcome.session->generation > keys_[name].forgotten) {
    Fail(absl::StrCat("told that it is ended, without an event: ", name));
  }
}

void Truth::OnMustInitialize(const Acquired& acquired) {
  auto it = generations_.find(acquired.generation);
  if (it == generations_.end() || acquired.session == nullptr) {
    return Fail("told to initialize no generation");
  }
  const TrueGeneration& generation = it->second;
  const TrueKey& key = keys_[generation.key];
  const std::string what = absl::StrCat(generation.key, "/", acquired.generation);
  // D10
  if (acquired.reset != generation.restores) Fail(absl::StrCat("reset is wrong: ", what));
  // G01 D11 E05
  uint64_t told = 0;
  if (acquired.checkpoint != nullptr) told = NumberOf(acquired.checkpoint->data);
  if (told < generation.checkpoint) {
    Fail(absl::StrCat(what, " is given checkpoint ", told, " instead of ", generation.checkpoint));
  }
  if (acquired.checkpoint == nullptr) return;
  const CheckpointInfo& info = acquired.checkpoint->info;
  if (told == 0 || acquired.checkpoint->data != CheckpointOf(told) ||
      info.bytes != acquired.checkpoint->data.size()) {
    Fail(absl::StrCat(what, " is given what is no checkpoint"));
  }
  if (info.generation <= generation.forgotten || info.generation >= acquired.generation) {
    Fail(absl::StrCat(what, " is given a checkpoint of generation ", info.generation));
  }
  if (generation.state == State::kInitializing && generation.restores &&
      (acquired.session->owner != key.owner || acquired.session->labels != key.labels)) {
    Fail(absl::StrCat(what, " has another owner, or other labels"));
  }
}

void Truth::Check() {
  for (const auto& [name, key] : keys_) {
    const DurableDisk::Stored* stored = disk_.Find(name);
    const bool live = key.live != 0 && generations_.at(key.live).state != State::kInitializing;
    if (live ? !IsActiveOnDisk(name, key.live)
             : (key.record != 0 ? !IsSuspendedOnDisk(name, key.record) : stored != nullptr)) {
      Fail(absl::StrCat("the disk has something else: ", name));
    }
    if (stored != nullptr &&
        (stored->record.owner != key.owner || stored->record.labels != key.labels)) {  // D11
      Fail(absl::StrCat("the disk has another owner, or other labels: ", name));
    }
    if (stored != nullptr && key.checkpoint != 0 &&
        (!stored->record.checkpoint.has_value() || NumberOf(stored->checkpoint) < key.checkpoint)) {
      Fail(absl::StrCat("the disk has an older checkpoint of ", name));
    }
    // D07: what could not be suspended is active again at once, and says so.
    if (key.live != 0 && generations_.at(key.live).state == State::kSuspending &&
        !disk_.IsSuspending(name, key.live)) {
      Fail(absl::StrCat("suspending, with nothing on its way: ", name));
    }
  }
}

}  // namespace broker::sim
