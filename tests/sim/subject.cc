#include "tests/sim/subject.h"

#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"

namespace broker::sim {

// Told once, by contract: a second time is an error of the table.
class Subject::Observer final : public AcquireObserver {
 public:
  Observer(Subject& subject, int call) : subject_(subject), call_(call) {}
  void OnAcquired(absl::StatusOr<Acquired> outcome) override {
    subject_.step_->told.emplace_back(call_, std::move(outcome));
  }

 private:
  Subject& subject_;
  const int call_;
};

namespace {

constexpr uint32_t kNamespaceId = 7;
constexpr Duration kWallOffset = std::chrono::hours(24 * 365 * 50);

SessionTable::Options OptionsFor(size_t shard_count, uint64_t first_number) {
  SessionTable::Options options;
  options.namespace_name = "sim";
  options.namespace_id = kNamespaceId;
  options.shard_count = shard_count;
  options.first_number = first_number;
  return options;
}

}  // namespace

Subject::Subject(const NamespaceConfig& config, size_t shard_count, uint64_t first_number)
    : table_(OptionsFor(shard_count, first_number), config) {
  // The hash is another one in each process, and a seed must do the same everywhere: so keys are
  // named for the shard that they fall into.
  for (int key = 0; key < kKeys; ++key) {
    const size_t shard = static_cast<size_t>(key) % shard_count;
    int salt = 0;
    std::string name;
    do {
      // Some are too long to be kept in place.
      name = absl::StrCat(key % 3 == 2 ? "a-key-that-goes-on-and-on-" : "key", key, "-", salt++);
    } while ((static_cast<uint32_t>(absl::HashOf(absl::string_view(name))) & (shard_count - 1)) !=
             shard);
    keys_.push_back(name);
    shard_of_.push_back(static_cast<int>(shard));
  }
}

Instant Subject::At(Time time) { return {time, WallTime(time.time_since_epoch() + kWallOffset)}; }

Labels Subject::LabelsOf(const ModelLabels& labels) {
  Labels map;
  if (labels.from != 0) map["from"] = absl::StrCat(labels.from);
  if (labels.more != 0) map["more"] = absl::StrCat(labels.more);
  return map;
}

std::string Subject::OwnerOf(int owner) {
  return owner == 0 ? std::string() : absl::StrCat("owner", owner);
}

std::string Subject::EndpointOf(int endpoint) {
  return endpoint == 0 ? std::string() : absl::StrCat("tcp:", endpoint);
}

LeaseRef Subject::RefOf(const Op& op) const {
  auto it = refs_.find(op.lease);
  if (it == refs_.end())
    return LeaseRef{
        .namespace_id = kNamespaceId, .slot = 1'000'000, .sequence = 1};  // Never granted.
  LeaseRef ref = it->second;
  if (op.guessed) ref.sequence += 1'000'000'000;
  return ref;
}

Observed Subject::Do(const Op& op) {
  Observed observed;
  step_ = &observed;
  const Instant now = At(op.now);
  switch (op.kind) {
    case OpKind::kAcquire: {
      const std::string holder = absl::StrCat("holder", op.ask.holder);
      const std::string owner = OwnerOf(op.ask.owner);
      const std::string request =
          op.ask.request == 0 ? std::string() : absl::StrCat("request", op.ask.request);
      const Labels labels = LabelsOf({op.ask.labels, 0});
      AcquireParams params;
      params.key = keys_[op.ask.key];
      params.holder = holder;
      params.owner = owner;
      params.request_id = request;
      params.labels = labels.empty() ? nullptr : &labels;
      params.mode = op.ask.mode;
      params.if_absent = op.ask.if_absent;
      params.lease_ttl = op.ask.ttl;
      params.wait_timeout = op.ask.wait;
      params.full_session = op.ask.full;
      calls_.resize(op.call + 1);
      calls_[op.call].observer = std::make_shared<Observer>(*this, op.call);
      observed.acquire = table_.Acquire(params, calls_[op.call].observer, now);
      break;
    }
    case OpKind::kCancel: {
      const Call& call = calls_[op.call];
      if (call.ticket.has_value()) table_.CancelAcquire(*call.ticket, call.observer.get(), now);
      break;
    }
    case OpKind::kUndo:
      table_.UndoAcquire(RefOf(op), now);
      break;
    case OpKind::kActivate: {
      const std::string endpoint = EndpointOf(op.endpoint);
      const Labels labels =
          LabelsOf(op.labels % 2 == 1 ? ModelLabels{op.labels, 0} : ModelLabels{0, op.labels});
      auto result = table_.Activate(RefOf(op), {endpoint, labels.empty() ? nullptr : &labels}, now);
      observed.status = result.status();
      if (result.ok()) observed.session = *std::move(result);
      break;
    }
    case OpKind::kFailInit: {
      auto result = table_.FailInit(RefOf(op), {"no", std::chrono::seconds(1)}, now);
      observed.status = result.status();
      if (result.ok()) observed.session = *std::move(result);
      break;
    }
    case OpKind::kRenew:
      observed.renew = table_.Renew(RefOf(op), now);
      break;
    case OpKind::kRelease:
      observed.release = table_.Release(RefOf(op), op.disposition, now);
      break;
    case OpKind::kEnd: {
      uint64_t generation = static_cast<uint64_t>(op.generation);
      if (op.generation > 0) generation = generations_.at(op.generation);
      auto result = table_.End(keys_[op.key], generation, "on a whim", now);
      observed.status = result.status();
      if (result.ok()) {
        observed.ended = result->ended;
        observed.session = std::move(result->session);
      }
      break;
    }
    case OpKind::kConfig:
      table_.UpdateConfig(op.config);
      while (table_.Sweep(now)) {
      }
      break;
    case OpKind::kSweep:
      while (table_.Sweep(now)) {
      }
      break;
    case OpKind::kShutdown:
      table_.Shutdown(now);
      break;
  }
  step_ = nullptr;
  ListCursor cursor;
  while (true) {
    ListOutcome page = table_.List({}, cursor, now);
    for (SessionInfo& info : page.sessions) observed.sessions[info.key] = std::move(info);
    if (!page.next.has_value()) break;
    cursor = *page.next;
  }
  observed.stats = table_.Stats();
  return observed;
}

void Subject::Learn(const Told& told, const Acquired& acquired) {
  refs_[told.lease] = acquired.lease;
  generations_[told.generation] = acquired.generation;
  uint64_t& highest = highest_[told.key];
  highest = std::max(highest, acquired.lease.sequence);
}

void Subject::Commit(const Op& op, const Expected& expected, const Observed& observed) {
  if (op.kind == OpKind::kAcquire) {
    if (const auto* ticket = std::get_if<WaitTicket>(&*observed.acquire)) {
      calls_[op.call].ticket = *ticket;
      ++untold_;
    } else if (expected.direct->reason == Reason::kNone) {
      Learn(*expected.direct, **std::get_if<absl::StatusOr<Acquired>>(&*observed.acquire));
    }
  }
  for (const auto& [call, outcome] : observed.told) {
    calls_[call].told = true;
    calls_[call].observer.reset();
    --untold_;
    if (outcome.ok()) Learn(expected.told.at(call), *outcome);
  }
  for (const auto& [lease, status] : expected.over) lost_[lease] = status;
}

}  // namespace broker::sim
