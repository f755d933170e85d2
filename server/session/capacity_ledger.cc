#include "server/session/capacity_ledger.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/session/mutants.h"

namespace broker {

SlotToken& SlotToken::operator=(SlotToken&& other) noexcept {
  if (this != &other) {
    SlotToken old = std::move(*this);  // Gives back what it held.
    ledger_ = std::exchange(other.ledger_, nullptr);
    owner_ = std::exchange(other.owner_, nullptr);
  }
  return *this;
}

SlotToken::~SlotToken() {
  if (ledger_ != nullptr) ledger_->Release(std::move(*this), nullptr);
}

EvictionTicket::~EvictionTicket() {
  std::vector<LeftCall> nobody;
  if (ledger_ != nullptr) Renew(/*stop=*/true, nobody);
}

bool EvictionTicket::Renew(bool stop, std::vector<LeftCall>& left) {
  if (ledger_->RenewEviction(owner_, stop, left)) return true;
  ledger_ = nullptr;
  return false;
}

CapacityLedger::CapacityLedger(uint32_t max_sessions, std::optional<uint32_t> max_per_owner)
    : max_sessions_(max_sessions), max_per_owner_(max_per_owner) {}

CapacityLedger::~CapacityLedger() {
  std::deque<Grant> grants;  // Their tokens take the lock.
  {
    MutexLock lock(mu_);
    grants.swap(grants_);
  }
}

SlotToken CapacityLedger::TryReserve(absl::string_view owner) {
  MutexLock lock(mu_);
  // Invariant (3): if there is room, nobody who waits could use it.
  if (used_ >= max_sessions_ && !BROKER_MUTANT(1)) return SlotToken();
  OwnerAccount& account = AccountLocked(owner);
  if (HeadroomLocked(account) == 0) {
    RefreshLocked(account);  // It may be empty: a cap of zero.
    return SlotToken();
  }
  ChangeUsedLocked(account, 1);
  RefreshLocked(account);
  PublishLocked();
  return SlotToken(this, &account);
}

SlotToken CapacityLedger::Restore(absl::string_view owner) {
  MutexLock lock(mu_);
  OwnerAccount& account = AccountLocked(owner);
  ChangeUsedLocked(account, 1);
  RefreshLocked(account);
  PublishLocked();
  return SlotToken(this, &account);
}

bool CapacityLedger::Reassign(SlotToken& token, absl::string_view owner) {
  BROKER_CHECK(token.ledger_ == this);
  MutexLock lock(mu_);
  // A namespace or an owner whose limit was lowered gets no new generation on an old slot.
  if (used_ > max_sessions_) return false;
  if (token.owner_->name == owner) {
    return owner.empty() || !max_per_owner_.has_value() || token.owner_->used <= *max_per_owner_;
  }
  OwnerAccount& to = AccountLocked(owner);
  if (HeadroomLocked(to) == 0) {
    RefreshLocked(to);
    return false;
  }
  OwnerAccount& from = *std::exchange(token.owner_, &to);
  ChangeUsedLocked(to, 1);
  ChangeUsedLocked(from, -1);
  RefreshLocked(to);
  RefreshLocked(from);
  MatchLocked(nullptr);  // The namespace may have had room that `from`'s cap kept from being used.
  PublishLocked();
  return true;
}

void CapacityLedger::Release(SlotToken token, std::unique_ptr<SessionInfo> displaced) {
  BROKER_CHECK(token.ledger_ == this);
  token.ledger_ = nullptr;
  MutexLock lock(mu_);
  ReleaseLocked(*token.owner_, std::move(displaced));
}

void CapacityLedger::ReleaseLocked(OwnerAccount& account, std::unique_ptr<SessionInfo> displaced) {
  ChangeUsedLocked(account, -1);
  RefreshLocked(account);
  MatchLocked(std::move(displaced));
  PublishLocked();
}

void CapacityLedger::Enqueue(const Waiter& waiter, absl::string_view owner) {
  MutexLock lock(mu_);
  EnqueueLocked(waiter, owner);
}

void CapacityLedger::EnqueueBehind(const Waiter& waiter, absl::string_view owner) {
  MutexLock lock(mu_);
  if (groups_.contains(waiter.group)) EnqueueLocked(waiter, owner);
}

void CapacityLedger::EnqueueLocked(const Waiter& waiter, absl::string_view owner) {
  OwnerAccount& account = AccountLocked(owner);
  account.waiting.insert(waiter.arrival);
  ++account.waiting_groups[waiter.group];
  const bool inserted = waiters_.emplace(waiter.arrival, QueuedWaiter{waiter, &account}).second;
  BROKER_CHECK(inserted);
  groups_[waiter.group].insert(waiter.arrival);
  RefreshLocked(account);
  MatchLocked(nullptr);
  PublishLocked();
}

bool CapacityLedger::Withdraw(uint64_t arrival) {
  MutexLock lock(mu_);
  if (!waiters_.contains(arrival)) return false;
  RemoveWaiterLocked(arrival);
  PublishLocked();
  return true;
}

void CapacityLedger::WithdrawGroup(uint64_t group) {
  MutexLock lock(mu_);
  RemoveGroupLocked(group);
  PublishLocked();
}

std::optional<CapacityLedger::Grant> CapacityLedger::TakeGrant() {
  MutexLock lock(mu_);
  if (grants_.empty()) return std::nullopt;
  Grant grant = std::move(grants_.front());
  grants_.pop_front();
  PublishLocked();
  return grant;
}

std::optional<EvictionTicket> CapacityLedger::BeginEviction() {
  MutexLock lock(mu_);
  if (!BeginLocked(evictions_, EvictionsWantedLocked())) return std::nullopt;
  return EvictionTicket(this, "");
}

std::optional<EvictionTicket> CapacityLedger::BeginOwnerEviction(absl::string_view owner) {
  MutexLock lock(mu_);
  auto it = accounts_.find(owner);
  if (owner.empty() || it == accounts_.end()) return std::nullopt;
  OwnerAccount& account = it->second;
  if (!BeginLocked(account.evictions, OwnerEvictionsWantedLocked(account))) return std::nullopt;
  return EvictionTicket(this, account.name);
}

bool CapacityLedger::BeginLocked(Evictions& evictions, uint32_t wanted) {
  evictions.refused |= wanted <= evictions.under_way;
  if (wanted <= evictions.under_way) return false;
  ++evictions.under_way;
  return true;
}

bool CapacityLedger::LeaveToEvictors(const LeftCall& call) {
  MutexLock lock(mu_);
  auto it = waiters_.find(call.arrival);
  if (it == waiters_.end()) return false;
  OwnerAccount& account = *it->second.account;
  Evictions& evictions = HeadroomLocked(account) == 0 ? account.evictions : evictions_;
  if (evictions.under_way == 0) return false;
  evictions.left.push_back(call);
  return true;
}

bool CapacityLedger::IsLeftToEvictors(uint64_t arrival) const {
  MutexLock lock(mu_);
  auto it = waiters_.find(arrival);
  if (it == waiters_.end()) return false;
  const OwnerAccount& account = *it->second.account;
  return (HeadroomLocked(account) == 0 ? account.evictions : evictions_).under_way > 0;
}

bool CapacityLedger::RenewEviction(const std::string& owner, bool stop,
                                   std::vector<LeftCall>& left) {
  MutexLock lock(mu_);
  OwnerAccount* account = owner.empty() ? nullptr : &AccountLocked(owner);
  Evictions& evictions = account != nullptr ? account->evictions : evictions_;
  const bool asked_for = std::exchange(evictions.refused, false) || !evictions.left.empty();
  left.insert(left.end(), evictions.left.begin(), evictions.left.end());
  evictions.left.clear();
  --evictions.under_way;
  bool renewed = false;
  if (!stop || asked_for) {
    renewed = BeginLocked(evictions, account != nullptr ? OwnerEvictionsWantedLocked(*account)
                                                        : EvictionsWantedLocked());
  }
  if (account != nullptr) RefreshLocked(*account);
  return renewed;
}

std::vector<std::string> CapacityLedger::PressedOwners() const {
  MutexLock lock(mu_);
  std::vector<std::string> owners;
  for (const auto& [name, account] : accounts_) {
    if (account.pressed) owners.push_back(name);
  }
  return owners;
}

void CapacityLedger::SetLimits(uint32_t max_sessions, std::optional<uint32_t> max_per_owner) {
  MutexLock lock(mu_);
  max_sessions_ = max_sessions;
  max_per_owner_ = max_per_owner;
  std::vector<OwnerAccount*> accounts;
  accounts.reserve(accounts_.size());
  for (auto& [name, account] : accounts_) accounts.push_back(&account);
  for (OwnerAccount* account : accounts) RefreshLocked(*account);
  MatchLocked(nullptr);
  PublishLocked();
}

CapacityLedger::Refusal CapacityLedger::WhyRefused(absl::string_view owner) const {
  MutexLock lock(mu_);
  auto it = accounts_.find(owner);
  const uint32_t used = it == accounts_.end() ? 0 : it->second.used;
  if (!owner.empty() && max_per_owner_.has_value() && used >= *max_per_owner_) {
    return Refusal::kOwner;
  }
  return used_ >= max_sessions_ ? Refusal::kNamespace : Refusal::kNone;
}

uint32_t CapacityLedger::owner_used(absl::string_view owner) const {
  MutexLock lock(mu_);
  auto it = accounts_.find(owner);
  return it == accounts_.end() ? 0 : it->second.used;
}

uint32_t CapacityLedger::max_sessions() const {
  MutexLock lock(mu_);
  return max_sessions_;
}

std::optional<uint32_t> CapacityLedger::max_per_owner() const {
  MutexLock lock(mu_);
  return max_per_owner_;
}

OwnerAccount& CapacityLedger::AccountLocked(absl::string_view owner) {
  auto it = accounts_.find(owner);
  if (it == accounts_.end()) {
    it = accounts_.try_emplace(std::string(owner)).first;
    it->second.name = std::string(owner);
  }
  return it->second;
}

uint32_t CapacityLedger::HeadroomLocked(const OwnerAccount& account) const {
  if (account.name.empty() || !max_per_owner_.has_value()) {
    return std::numeric_limits<uint32_t>::max();
  }
  return *max_per_owner_ > account.used ? *max_per_owner_ - account.used : 0;
}

void CapacityLedger::ChangeUsedLocked(OwnerAccount& account, int by) {
  BROKER_CHECK(by > 0 || (used_ > 0 && account.used > 0));
  account.used += by;
  used_ += by;
}

void CapacityLedger::RefreshLocked(OwnerAccount& account) {
  const uint64_t servable =
      std::min<uint64_t>(account.waiting_groups.size(), HeadroomLocked(account));
  const uint64_t head = servable > 0 ? *account.waiting.begin() : 0;
  if (head != account.servable_head) {
    if (account.servable_head != 0) servable_.erase(account.servable_head);
    if (head != 0) servable_.emplace(head, &account);
    account.servable_head = head;
  }
  servable_groups_ += servable - account.servable_groups;
  account.servable_groups = servable;
  const bool pressed = OwnerEvictionsWantedLocked(account) > 0;
  pressed_owners_ += pressed - account.pressed;
  account.pressed = pressed;
  if (account.used == 0 && account.waiting.empty() && account.evictions.under_way == 0) {
    accounts_.erase(std::string(account.name));
  }
}

void CapacityLedger::RemoveWaiterLocked(uint64_t arrival) {
  auto it = waiters_.find(arrival);
  const QueuedWaiter queued = it->second;
  waiters_.erase(it);
  auto group = groups_.find(queued.waiter.group);
  group->second.erase(arrival);
  if (group->second.empty()) groups_.erase(group);
  OwnerAccount& account = *queued.account;
  account.waiting.erase(arrival);
  auto of_group = account.waiting_groups.find(queued.waiter.group);
  if (--of_group->second == 0) account.waiting_groups.erase(of_group);
  RefreshLocked(account);
}

void CapacityLedger::RemoveGroupLocked(uint64_t group) {
  auto it = groups_.find(group);
  if (it == groups_.end()) return;
  // Each owner's account is brought up to date once, however many of its waiters leave.
  absl::flat_hash_set<OwnerAccount*> accounts;
  for (uint64_t arrival : it->second) {
    auto waiter = waiters_.find(arrival);
    OwnerAccount* account = waiter->second.account;
    waiters_.erase(waiter);
    account->waiting.erase(arrival);
    account->waiting_groups.erase(group);
    accounts.insert(account);
  }
  groups_.erase(it);
  for (OwnerAccount* account : accounts) RefreshLocked(*account);
}

void CapacityLedger::MatchLocked(std::unique_ptr<SessionInfo> displaced) {
  while (used_ < max_sessions_ && !servable_.empty()) {
    const auto [arrival, account] =
        BROKER_MUTANT(2) ? *std::prev(servable_.end()) : *servable_.begin();
    const Waiter waiter = waiters_.at(arrival).waiter;
    ChangeUsedLocked(*account, 1);
    grants_.push_back({waiter, SlotToken(this, account), std::move(displaced)});
    RemoveGroupLocked(waiter.group);  // One slot serves the whole group.
  }
}

uint32_t CapacityLedger::EvictionsWantedLocked() const {
  const uint32_t excess = used_ > max_sessions_ ? used_ - max_sessions_ : 0;
  if (used_ < max_sessions_) return 0;
  return excess + std::min<uint64_t>(servable_groups_, groups_.size());
}

uint32_t CapacityLedger::OwnerEvictionsWantedLocked(const OwnerAccount& account) const {
  if (account.name.empty() || !max_per_owner_.has_value()) return 0;
  if (account.used < *max_per_owner_) return 0;
  // Of those who wait, only as many as the cap would ever let in at a time.
  const uint64_t waiting = std::min<uint64_t>(account.waiting_groups.size(), *max_per_owner_);
  return account.used - *max_per_owner_ + waiting;
}

void CapacityLedger::PublishLocked() {
  used_relaxed_.store(used_, std::memory_order_relaxed);
  grant_count_.store(grants_.size(), std::memory_order_release);
  const bool pressure = pressed_owners_ > 0 || EvictionsWantedLocked() > 0;
  if (pressure_.load(std::memory_order_relaxed) != pressure) {
    pressure_.store(pressure, std::memory_order_seq_cst);
  }
}

std::vector<std::string> CapacityLedger::CheckInvariants() const {
  MutexLock lock(mu_);
  std::vector<std::string> wrong;
  uint64_t used = 0, waiting = 0, grouped = 0, servable = 0;
  for (const auto& [name, account] : accounts_) {
    used += account.used;
    waiting += account.waiting.size();
    for (const auto& [group, count] : account.waiting_groups) grouped += count;
    if (account.servable_head != 0) ++servable;
  }
  if (used != used_) wrong.push_back(absl::StrCat("owners have ", used, " slots of ", used_));
  if (waiting != waiters_.size()) {
    wrong.push_back(absl::StrCat("owners have ", waiting, " waiters of ", waiters_.size()));
  }
  if (grouped != waiting) {
    wrong.push_back(absl::StrCat("owners' groups have ", grouped, " waiters of ", waiting));
  }
  if (servable != servable_.size()) {
    wrong.push_back(absl::StrCat(servable, " servable owners, ", servable_.size(), " listed"));
  }
  if (used_ < max_sessions_ && !servable_.empty()) {
    wrong.push_back("a slot is free and a waiter could have it");
  }
  return wrong;
}

}  // namespace broker
