#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "server/session/session_table.h"
#include "tests/sim/durable_truth.h"

namespace broker::sim {

// A lease as its holder knows it.
struct HeldLease {
  LeaseRef ref;
  std::string key;
  std::string holder;
  MonotonicTime granted;
  MonotonicTime until;       // Not renewed until then it is over, as the holder has to suppose.
  MonotonicTime next_renew;  // Of a diligent one.
  bool diligent = false;     // Renewed every third of its ttl.
  bool releasing = false;    // The holder uses it no more, whether that was answered or not.
  int releases = 0;          // That were not answered.
  bool given_back = false;   // And that was answered; or it was undone.
  bool over = false;         // The holder knows.
  bool may_be_lost = false;  // By a hard deadline.
  bool known_dead = false;   // The disk said so at the last start.
  int life = 0;              // In which it was granted.
  int over_in = -1;          // The life in which the table said that it is over.
  int answers = 1;
};

// The Holders remember every lease that was told, and find those that cannot be believed in at the
// same time; and the diligent ones find out when a lease is lost that must not be.
class Holders {
 public:
  Holders(Truth& truth, const DurableDisk& disk) : truth_(truth), disk_(disk) {}

  std::deque<HeldLease>& leases() { return leases_; }
  HeldLease* Find(uint64_t sequence);

  // `since` is when it was granted.
  void OnGranted(const Acquired& acquired, const std::string& key, const std::string& holder,
                 MonotonicTime since, MonotonicTime now, bool diligent);
  void OnRenewed(HeldLease& lease, const RenewOutcome& outcome, MonotonicTime now);
  void OnReleased(HeldLease& lease, const ReleaseOutcome& outcome);
  // Any call in its name that may have adopted it.
  void OnUsed(const HeldLease& lease, bool given_back = false);
  // Nobody may hold a generation that is taken away because it is idle.
  void OnTaken(uint64_t generation, MonotonicTime now);
  // Whatever ends leases although they are renewed.
  void OnDeadlines(const NamespaceConfig& config, MonotonicTime now);
  // `left`: what a planned stop wrote down, or null. It was down from `stopped` until `now`.
  void OnRestart(const std::vector<LeaseRecord>* left, MonotonicTime stopped, MonotonicTime now,
                 MonotonicTime window_end);
  // At the end, with everything written: what is lost is known to the disk.
  void CheckRecorded();

  bool Believes(const HeldLease& lease, MonotonicTime now) const;
  int life() const { return life_; }
  void Abandon();  // No one is diligent any more.

 private:
  void CheckAlone(const HeldLease& lease, MonotonicTime now);
  bool IsLive(const HeldLease& lease) const;

  Truth& truth_;
  const DurableDisk& disk_;
  std::deque<HeldLease> leases_;  // They stay where they are.
  std::map<uint64_t, size_t> by_sequence_;
  std::map<uint64_t, std::vector<size_t>> by_generation_;
  std::map<std::string, uint64_t> highest_;  // Token, by key.
  // In this life: generations that were restored, as used exclusively or not.
  std::map<uint64_t, bool> restored_;
  // Where somebody came after a restart with a lease that he had given back before it: nobody can
  // tell it from one that is held, so there others may lose theirs to it.
  std::set<uint64_t> tainted_;
  // Where an exclusive lease of before this life has shown itself by more than its release.
  std::set<uint64_t> proven_;
  MonotonicTime window_end_ = MonotonicTime::min();
  int life_ = 0;
};

}  // namespace broker::sim
