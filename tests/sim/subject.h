#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/session/session_table.h"
#include "tests/sim/model.h"

namespace broker::sim {

inline constexpr int kKeys = 8;

// What a step brought about, as the table has it.
struct Observed {
  std::optional<AcquireResult> acquire;
  // By call, in the order in which the observers were told.
  std::vector<std::pair<int, absl::StatusOr<Acquired>>> told;
  absl::Status status;                 // Activate, FailInit and End.
  std::optional<SessionInfo> session;  // That they returned.
  RenewOutcome renew;
  ReleaseOutcome release;
  bool ended = false;
  std::map<std::string, SessionInfo> sessions;  // What the listing shows afterwards.
  TableStats stats;
};

// A Subject is the table under test, with the names that the model's numbers stand for: it carries
// out steps, and says where what they brought about is not what the model expects.
class Subject {
 public:
  Subject(const NamespaceConfig& config, size_t shard_count, uint64_t first_number);

  const std::vector<int>& shard_of() const { return shard_of_; }
  SessionTable& table() { return table_; }

  Observed Do(const Op& op);
  // Empty when all is as expected; otherwise the first difference.
  std::string Compare(const Op& op, const Expected& expected, const Model& after,
                      const Observed& observed) const;
  // Takes over what the table has numbered: leases, generations, how leases ended.
  void Commit(const Op& op, const Expected& expected, const Observed& observed);

  // What nobody has been told of yet.
  size_t untold() const { return untold_; }
  const std::string& key_name(int key) const { return keys_[key]; }

  static Instant At(Time time);
  static Labels LabelsOf(const ModelLabels& labels);
  static std::string OwnerOf(int owner);
  static std::string EndpointOf(int endpoint);

 private:
  class Observer;
  struct Call {
    std::shared_ptr<Observer> observer;
    std::optional<WaitTicket> ticket;
    bool told = false;
  };

  LeaseRef RefOf(const Op& op) const;
  std::string CompareGrant(const Told& expected, const absl::StatusOr<Acquired>& outcome) const;
  std::string CompareLease(const Op& op, const Expected& expected, const Observed& observed) const;
  std::string CompareStatus(int lease, bool guessed, LeaseStatus status) const;
  std::string CompareSessions(const Model& after, const Observed& observed, Time now) const;
  std::string CompareStats(const Model& after, const TableStats& stats) const;
  // Whether the table's generation is the one that the model's number stands for, or may be.
  bool SameGeneration(int key, int generation, uint64_t number) const;
  void Learn(const Told& told, const Acquired& acquired);

  SessionTable table_;
  std::vector<std::string> keys_;
  std::vector<int> shard_of_;

  // By the model's number.
  std::vector<Call> calls_;
  std::map<int, LeaseRef> refs_;
  std::map<int, LeaseStatus> lost_;
  std::map<int, uint64_t> generations_;
  std::map<int, uint64_t> highest_;  // Token or generation, by key.

  Observed* step_ = nullptr;
  size_t untold_ = 0;
};

}  // namespace broker::sim
