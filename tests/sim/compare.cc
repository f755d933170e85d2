// Where the table differs from the model.

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/sim/subject.h"

namespace broker::sim {
namespace {

std::string Differ(absl::string_view what, const absl::AlphaNum& expected,
                   const absl::AlphaNum& got) {
  return absl::StrCat(what, ": expected ", expected, ", got ", got);
}

std::string ReasonOf(const absl::Status& status) {
  return status.ok() ? "OK" : std::string(ReasonName(GetErrorInfo(status).reason));
}

std::string ReasonOf(Reason reason) {
  return reason == Reason::kNone ? "OK" : std::string(ReasonName(reason));
}

}  // namespace

bool Subject::SameGeneration(int key, int generation, uint64_t number) const {
  auto it = generations_.find(generation);
  if (it != generations_.end()) return it->second == number;
  auto highest = highest_.find(key);  // A new one: above all that the key has seen.
  return highest == highest_.end() || number > highest->second;
}

std::string Subject::CompareGrant(const Told& expected,
                                  const absl::StatusOr<Acquired>& outcome) const {
  const std::string reason = ReasonOf(expected.reason);
  if (ReasonOf(outcome.status()) != reason) {
    return Differ("outcome", reason,
                  absl::StrCat(ReasonOf(outcome.status()), " (", outcome.status().message(), ")"));
  }
  if (!outcome.ok()) return "";
  const Acquired& got = *outcome;
  auto known = refs_.find(expected.lease);
  if (known != refs_.end()) {
    if (!(known->second == got.lease)) return "a retry got another lease";
  } else {
    auto highest = highest_.find(expected.key);
    if (highest != highest_.end() && got.lease.sequence <= highest->second) {
      return Differ("token not above", highest->second, got.lease.sequence);
    }
  }
  if (static_cast<int>(got.lease.shard) != shard_of_[expected.key]) return "lease of another shard";
  if (!SameGeneration(expected.key, expected.generation, got.generation)) {
    return Differ("generation", expected.generation, got.generation);
  }
  if (got.mode != expected.mode) return "mode";
  if (got.ttl != expected.ttl) {
    return Differ("ttl", expected.ttl.count(), got.ttl.count());
  }
  if (got.must_initialize != expected.must_initialize) {
    return Differ("must_initialize", expected.must_initialize, got.must_initialize);
  }
  if (got.reset != expected.reset) return Differ("reset", expected.reset, got.reset);
  if (got.endpoint != EndpointOf(expected.endpoint)) {
    return Differ("endpoint", EndpointOf(expected.endpoint), got.endpoint);
  }
  const bool whole = expected.must_initialize || expected.full;
  if (whole != (got.session != nullptr)) return "whole session";
  if (got.session && got.session->key != keys_[expected.key]) return "session of another key";
  const uint64_t displaced = got.displaced ? got.displaced->generation : 0;
  const uint64_t evicted = expected.displaced ? generations_.at(expected.displaced) : 0;
  if (displaced != evicted) return Differ("displaced", evicted, displaced);
  return "";
}

std::string Subject::Compare(const Op& op, const Expected& expected, const Model& after,
                             const Observed& observed) const {
  if (op.kind == OpKind::kAcquire) {
    const auto* direct = std::get_if<absl::StatusOr<Acquired>>(&*observed.acquire);
    if (expected.queued != (direct == nullptr)) {
      return Differ("queued", expected.queued,
                    direct == nullptr ? "queued" : ReasonOf(direct->status()));
    }
    if (direct != nullptr) {
      const std::string diff = CompareGrant(*expected.direct, *direct);
      if (!diff.empty()) return diff;
    }
  }
  std::set<int> told;
  for (const auto& [call, outcome] : observed.told) {
    if (calls_[call].told || !told.insert(call).second) {
      return absl::StrCat("call ", call, " was told twice");
    }
    auto it = expected.told.find(call);
    if (it == expected.told.end()) {
      std::string instead;
      for (const auto& [other, told] : expected.told) {
        absl::StrAppend(&instead, ", call ", other, ": ", ReasonOf(told.reason));
      }
      return absl::StrCat("call ", call, " was told ", ReasonOf(outcome.status()), ", not",
                          instead);
    }
    const std::string diff = CompareGrant(it->second, outcome);
    if (!diff.empty()) return absl::StrCat("call ", call, ": ", diff);
  }
  for (const auto& [call, outcome] : expected.told) {
    if (!told.contains(call)) {
      return absl::StrCat("call ", call, " was not told ", ReasonOf(outcome.reason));
    }
  }
  std::string diff = CompareLease(op, expected, observed);
  if (diff.empty()) diff = CompareSessions(after, observed, op.now);
  if (diff.empty()) diff = CompareStats(after, observed.stats);
  return diff;
}

std::string Subject::CompareStatus(int lease, bool guessed, LeaseStatus status) const {
  if (status == LeaseStatus::kUnknown) return "";  // Memory of it is short.
  auto it = lost_.find(lease);
  if (guessed || it == lost_.end() || it->second != status) {
    return Differ(absl::StrCat("status of lost lease ", lease),
                  it == lost_.end() ? -1 : static_cast<int>(it->second), static_cast<int>(status));
  }
  return "";
}

std::string Subject::CompareLease(const Op& op, const Expected& expected,
                                  const Observed& observed) const {
  switch (op.kind) {
    case OpKind::kActivate:
    case OpKind::kFailInit:
    case OpKind::kEnd:
      if (ReasonOf(observed.status) != ReasonOf(expected.reason)) {
        return Differ("outcome", ReasonOf(expected.reason), ReasonOf(observed.status));
      }
      if (observed.ended != expected.ended) return Differ("ended", expected.ended, observed.ended);
      return "";
    case OpKind::kRenew:
      if (!expected.held) return CompareStatus(op.lease, op.guessed, observed.renew.status);
      if (observed.renew.status != expected.status) return "status of renewal";
      if (observed.renew.ttl != expected.ttl) return "ttl of renewal";
      return "";
    case OpKind::kRelease:
      if (observed.release.released != expected.held) {
        return Differ("released", expected.held, observed.release.released);
      }
      if (observed.release.pins != expected.pins) {
        return Differ("pins left", expected.pins, observed.release.pins);
      }
      if (expected.held) return "";
      return CompareStatus(op.lease, op.guessed, observed.release.status);
    default:
      return "";
  }
}

std::string Subject::CompareSessions(const Model& after, const Observed& observed, Time now) const {
  size_t shown = after.live.size();
  for (const auto& [key, record] : after.records) {
    if (after.live.contains(key)) continue;
    ++shown;
    auto it = observed.sessions.find(keys_[key]);
    if (it == observed.sessions.end()) return absl::StrCat(keys_[key], " is not suspended");
    const SessionInfo& got = it->second;
    if (got.state != SessionState::kSuspended) return absl::StrCat(keys_[key], ": suspended");
    if (!SameGeneration(key, record.generation, got.generation) ||
        got.owner != OwnerOf(record.owner) || got.labels != LabelsOf(record.labels) ||
        got.create_time != At(record.created).wall ||
        got.last_active_time != At(record.last_active).wall) {
      return absl::StrCat(keys_[key], ": its record is another");
    }
  }
  for (const auto& [key, session] : after.live) {
    const absl::string_view name = keys_[key];
    auto it = observed.sessions.find(keys_[key]);
    if (it == observed.sessions.end()) return absl::StrCat(name, " is gone");
    const SessionInfo& got = it->second;
    if (!SameGeneration(key, session.generation, got.generation)) {
      return absl::StrCat(name, ": ", Differ("generation", session.generation, got.generation));
    }
    const SessionState state = session.active ? SessionState::kActive : SessionState::kInitializing;
    if (got.state != state) return absl::StrCat(name, ": state");
    if (got.pins != session.pins.size()) {
      return absl::StrCat(name, ": ", Differ("pins", session.pins.size(), got.pins));
    }
    if (got.owner != OwnerOf(session.owner)) return absl::StrCat(name, ": owner ", got.owner);
    if (got.labels != LabelsOf(session.labels)) return absl::StrCat(name, ": labels");
    if (got.endpoint != EndpointOf(session.endpoint)) return absl::StrCat(name, ": endpoint");
    if (got.create_time != At(session.created).wall) return absl::StrCat(name, ": create_time");
    if (got.last_active_time != At(session.last_active).wall) {
      return absl::StrCat(
          name, ": ",
          Differ("ms since it was active",
                 (now - session.last_active) / std::chrono::milliseconds(1),
                 (At(now).wall - got.last_active_time) / std::chrono::milliseconds(1)));
    }
    std::optional<WallTime> idle, max;
    if (after.IsIdle(session) && after.IdleDue(session)) idle = At(*after.IdleDue(session)).wall;
    if (got.idle_expire_time != idle) return absl::StrCat(name, ": idle_expire_time");
    if (after.config.max_lifetime > Duration::zero()) {
      max = At(session.created + after.config.max_lifetime).wall;
    }
    if (got.max_expire_time != max) return absl::StrCat(name, ": max_expire_time");
  }
  if (observed.sessions.size() != shown) {
    return Differ("sessions", shown, observed.sessions.size());
  }
  return "";
}

std::string Subject::CompareStats(const Model& after, const TableStats& stats) const {
  const TableStats& counts = after.counts;
  uint64_t active = 0, pinned = 0, suspended = 0;
  for (const auto& [key, session] : after.live) {
    active += session.active;
    pinned += session.active && !session.pins.empty();
  }
  for (const auto& [key, record] : after.records) suspended += !after.live.contains(key);
  const struct {
    const char* name;
    uint64_t expected, got;
  } gauges[] = {
      {"initializing", after.live.size() - active, stats.initializing},
      {"active", active, stats.active},
      {"pinned", pinned, stats.pinned},
      {"suspended", suspended, stats.suspended},
      {"leases", after.leases.size(), stats.leases},
      {"waiters", after.waiters.size(), stats.waiters},
      {"slots_used", after.live.size(), stats.slots_used},
      {"acquired_held", counts.acquired_held, stats.acquired_held},
      {"acquired_created", counts.acquired_created, stats.acquired_created},
      {"waits", counts.waits.count, stats.waits.count},
      {"releases", counts.releases, stats.releases},
      {"releases_unmatched", counts.releases_unmatched, stats.releases_unmatched},
      {"renewals", counts.renewals, stats.renewals},
      {"leases_expired", counts.leases_expired, stats.leases_expired},
      {"leases_revoked", counts.leases_revoked, stats.leases_revoked},
      {"invariant_violations", 0, stats.invariant_violations},
  };
  for (const auto& gauge : gauges) {
    if (gauge.expected != gauge.got) return Differ(gauge.name, gauge.expected, gauge.got);
  }
  for (int i = 0; i < kEndCauseCount; ++i) {
    if (counts.ends[i] != stats.ends[i]) {
      return Differ(absl::StrCat("ends by cause ", i), counts.ends[i], stats.ends[i]);
    }
  }
  for (int i = 0; i < kReasonCount; ++i) {
    if (counts.acquire_refusals[i] != stats.acquire_refusals[i]) {
      return Differ(absl::StrCat("refusals ", ReasonOf(static_cast<Reason>(i))),
                    counts.acquire_refusals[i], stats.acquire_refusals[i]);
    }
  }
  return "";
}

}  // namespace broker::sim
