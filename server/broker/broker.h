#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/broker/lease_mint.h"
#include "server/broker/namespace_settings.h"
#include "server/broker/namespace_store.h"
#include "server/session/session_table.h"
#include "server/session/types.h"
#include "server/store/journal.h"

namespace broker {

inline constexpr absl::string_view kDefaultNamespace = "default";
inline constexpr uint32_t kMaxNamespaces = 1000;

// The namespace that a caller means by `name`, which may be empty.
inline absl::string_view NamespaceOrDefault(absl::string_view name) {
  return name.empty() ? kDefaultNamespace : name;
}

// A namespace as administration sees it.
struct NamespaceInfo {
  std::string name;
  NamespaceConfig config;  // Resolved.
  bool configured =
      false;  // By the config file or UpdateNamespace; otherwise it vanishes when empty.
  TableStats stats;
  Duration oldest_wait{};  // How long the first waiter has waited; zero: there is none.
  EventHub::Stats events;
  std::optional<WallTime>
      recovery_end;       // Set while leases of before a restart may show themselves.
  bool draining = false;  // It, or the whole broker.
};

// What is left to be drained.
struct DrainProgress {
  uint64_t pins = 0;
  uint64_t waiters = 0;
  // There are sessions that leases of before a restart may be out on, and not have shown
  // themselves.
  bool recovering = false;
  bool draining = false;  // It was ordered, and not taken back.
};

// How operators name a lease; it is nullopt for what is no handle.
std::string FormatLeaseHandle(const LeaseHandle& handle);
std::optional<LeaseHandle> ParseLeaseHandle(absl::string_view text);

// What a start found in the journal.
struct RecoveryReport {
  uint64_t namespaces = 0;
  uint64_t active = 0;
  uint64_t suspended = 0;
  uint64_t leases = 0;     // That were restored, after a planned stop.
  bool clean_stop = true;  // Otherwise leases may show themselves for `window`, at the longest.
  Duration window{};
};

// A subscriber's place in the events of a namespace, which it keeps alive.
struct EventStream {
  std::shared_ptr<SessionTable> table;
  std::unique_ptr<Subscription> subscription;  // Destroyed first.
};

// The operations of the broker in domain terms: finds the namespace, names leases, keeps the
// registry of namespaces, and does what is due when the reaper says so.
//
// Callers have checked the form of what they pass (lengths, UTF-8, enums); the broker checks what
// depends on its state. An empty namespace name means "default".
//
// No method but Recover and Park blocks on anything but short critical sections, so all may be
// called from gRPC reactions. Those with a `done` answer at once, or return nullopt and call it
// exactly once when the store has answered, possibly before they return.
//
// Thread-safe. `clock` and the journal must outlive the broker; the journal must be closed before
// the broker is destroyed.
class Broker {
 public:
  struct Options {
    size_t shard_count = 16;
    uint32_t max_namespaces = kMaxNamespaces;
    NamespaceSettings defaults;                   // Inherited by every namespace.
    const EventEncoder* event_encoder = nullptr;  // Null: events are numbered and not written.
    uint32_t max_subscribers_per_namespace = EventHub::Options().max_subscribers;
    // Told, with no lock held, of what an operator should know: the event and its namespace. May be
    // empty.
    //   "suspend without a store": the config asks for IdlePolicy::kSuspend and there is no durable
    //   store, so nothing idle is taken away in this namespace.
    std::function<void(absl::string_view event, absl::string_view namespace_name)> warn;
    Notes* notes = nullptr;      // Of what operators may want to read. Null: nobody does.
    Journal* journal = nullptr;  // Null: nothing is durable.
    std::string lease_key;       // Of LeaseMint::kKeyBytes at least; empty: one for this process.
  };

  // A queued Acquire, to be cancelled when its caller goes away. Movable and cheap to copy.
  struct ParkedAcquire;
  struct PendingAcquire {
    std::shared_ptr<SessionTable> table;
    WaitTicket ticket;
    // Waits for the journal before it can be made at all; the others are not set then.
    std::shared_ptr<ParkedAcquire> parked;
  };
  using AcquireResult = std::variant<absl::StatusOr<Acquired>, PendingAcquire>;

  Broker(const Options& options, const Clock& clock);
  ~Broker();

  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  // --- sessions and leases. Errors are those of SessionTable; see there. ---

  // Answers at once or queues; when queued, `observer` is told exactly once, possibly before this
  // returns. Makes the namespace if there is none (NAMESPACE_LIMIT when there are too many). A
  // namespace that nobody configured vanishes when it has been empty for a minute, or as soon as
  // its place is needed.
  AcquireResult Acquire(absl::string_view namespace_name, const AcquireParams& params,
                        std::shared_ptr<AcquireObserver> observer);
  // Brings into the cache what Acquires of these keys are about to read; see SessionTable.
  void Prefetch(absl::string_view namespace_name, absl::Span<const absl::string_view> keys) const;
  // Takes a queued Acquire out of the queue; its observer is told CANCELLED. No effect once
  // answered.
  void CancelAcquire(const PendingAcquire& pending, const AcquireObserver* observer);
  // For an Acquire that was granted but whose caller was gone before it was answered.
  void UndoAcquire(const LeaseRef& lease);
  // What the holder of a lease names it by: see LeaseMint.
  std::string LeaseIdOf(const LeaseRef& lease) const { return mint_->Mint(lease); }

  // A lease id that is malformed is INVALID_ARGUMENT (field "lease_id"); one that names nothing is
  // LEASE_LOST.
  Answer<SessionInfo> Activate(absl::string_view lease_id, const ActivateParams& params,
                               Done<SessionInfo> done);
  Answer<SessionInfo> FailInit(absl::string_view lease_id, const InitFailureParams& params,
                               Done<SessionInfo> done);
  // One outcome for each id, in order; a malformed id is kUnknown. `holder` is for leases that are
  // adopted after a restart.
  std::vector<RenewOutcome> Renew(const std::vector<absl::string_view>& lease_ids,
                                  absl::string_view holder = "");
  Answer<uint64_t> Checkpoint(absl::string_view lease_id, absl::string_view data,
                              Done<uint64_t> done);
  Answer<ReleaseOutcome> Release(absl::string_view lease_id, const ReleaseParams& params,
                                 Done<ReleaseOutcome> done);
  Answer<EndOutcome> End(absl::string_view namespace_name, absl::string_view key,
                         uint64_t if_generation, absl::string_view reason, Done<EndOutcome> done);
  Answer<SessionInfo> Suspend(absl::string_view namespace_name, absl::string_view key,
                              uint64_t if_generation, Done<SessionInfo> done);
  Answer<SessionInfo> GetSession(absl::string_view namespace_name, absl::string_view key,
                                 Done<SessionInfo> done) const;
  // An unused namespace name lists as empty. Suspended sessions come last; one that is suspended or
  // resumed meanwhile may be missing, or be there twice. A page has at most about 2 MiB of what is
  // read from the store, however many were asked for.
  Answer<ListOutcome> ListSessions(absl::string_view namespace_name, const ListParams& params,
                                   const ListCursor& from, Done<ListOutcome> done) const;

  // The same where there is no journal: nothing waits then.
  absl::StatusOr<SessionInfo> Activate(absl::string_view lease_id, const ActivateParams& params) {
    return *Activate(lease_id, params, nullptr);
  }
  absl::StatusOr<SessionInfo> FailInit(absl::string_view lease_id,
                                       const InitFailureParams& params) {
    return *FailInit(lease_id, params, nullptr);
  }
  absl::StatusOr<ReleaseOutcome> Release(absl::string_view lease_id, Disposition disposition) {
    return *Release(lease_id, {.disposition = disposition}, nullptr);
  }
  absl::StatusOr<EndOutcome> End(absl::string_view namespace_name, absl::string_view key,
                                 uint64_t if_generation, absl::string_view reason) {
    return *End(namespace_name, key, if_generation, reason, nullptr);
  }
  absl::StatusOr<SessionInfo> GetSession(absl::string_view namespace_name,
                                         absl::string_view key) const {
    return *GetSession(namespace_name, key, nullptr);
  }
  ListOutcome ListSessions(absl::string_view namespace_name, const ListParams& params,
                           const ListCursor& from) const {
    return **ListSessions(namespace_name, params, from, nullptr);
  }

  // --- events ---

  // From now on, or from after revision `after`; `sink` is told when there is something to read.
  // Makes the namespace if there is none; it does not vanish while it has subscribers.
  // SUBSCRIBER_LIMIT, REVISION_COMPACTED, NAMESPACE_LIMIT, SHUTTING_DOWN.
  absl::StatusOr<EventStream> Subscribe(absl::string_view namespace_name, const EventFilter& filter,
                                        std::optional<uint64_t> after,
                                        const std::shared_ptr<EventSink>& sink);
  // The initial state, piece by piece: see SessionTable.
  std::optional<ListCursor> ReadPiece(const EventStream& stream, const ListParams& params,
                                      ListCursor from, std::vector<SessionInfo>& out,
                                      InitialCut& cut) const;
  void ReadKey(const EventStream& stream, const ListParams& params, absl::string_view key,
               std::vector<SessionInfo>& out, InitialCut& cut) const;
  // What is suspended comes from the store, after all pieces: up to `limit` sessions behind the key
  // `after`. Told on another thread. Without a journal there are none.
  Answer<ListOutcome> ReadStored(const EventStream& stream, const ListParams& params,
                                 const std::string& after, Done<ListOutcome> done) const;
  // Tells subscribers what was published. One thread at a time.
  void DispatchEvents();
  // Called, from any thread, when DispatchEvents has something to do. Once this returns the old one
  // is not called any more. May be empty.
  void SetWakeDispatcher(std::function<void()> wake) ABSL_LOCKS_EXCLUDED(wake_mu_);

  // --- administration ---

  // An unused name has the inherited config and nothing in it.
  NamespaceInfo GetNamespace(absl::string_view name) const;
  // Lets `edit` change the settings, checks the result and applies it to the sessions that exist;
  // makes the namespace when there is none. Nothing changes when `edit` or the check fails. `edit`
  // runs with the registry's lock held: it must not call the broker.
  // Of several at a time each is based on the outcome of those before. QUEUE_FULL when more than
  // 100 wait for the journal.
  using SettingsEdit = absl::AnyInvocable<absl::Status(NamespaceSettings&)>;
  Answer<NamespaceInfo> UpdateNamespace(absl::string_view name, SettingsEdit edit,
                                        Done<NamespaceInfo> done);
  absl::StatusOr<NamespaceInfo> UpdateNamespace(absl::string_view name, SettingsEdit edit) {
    return *UpdateNamespace(name, std::move(edit), nullptr);
  }
  // NAMESPACE_NOT_FOUND, or NAMESPACE_NOT_EMPTY while there are sessions, suspended records or
  // waiters. The answer means nothing but that it is done.
  Answer<bool> DeleteNamespace(absl::string_view name, Done<bool> done);
  absl::Status DeleteNamespace(absl::string_view name) {
    return DeleteNamespace(name, nullptr)->status();
  }
  // See SessionTable. An unused namespace has no leases and no sessions.
  ListLeasesOutcome ListLeases(absl::string_view namespace_name, const ListLeasesParams& params,
                               const ListCursor& from) const;
  // INVALID_ARGUMENT (field "handle") for a handle of another namespace.
  Answer<RevokeOutcome> RevokeLease(absl::string_view namespace_name, const LeaseHandle& handle,
                                    absl::string_view reason, Done<RevokeOutcome> done);
  // SESSION_NOT_FOUND where there is neither a session nor somebody who waits for one.
  Answer<Explanation> ExplainSession(absl::string_view namespace_name, absl::string_view key,
                                     Done<Explanation> done) const;
  // Refuses Acquires in a namespace, used or not, or (empty) in the whole broker, until it is taken
  // back or the broker ends. What the two order is apart. False: that was so before.
  // NAMESPACE_LIMIT when as many namespaces are drained by name as there may be.
  absl::StatusOr<bool> Drain(absl::string_view namespace_name);
  bool Undrain(absl::string_view namespace_name);
  DrainProgress Progress(absl::string_view namespace_name) const;
  // What is to be read of a namespace in the log; none is named for the whole broker.
  void AddNote(NoteKind kind, absl::string_view namespace_name) const;
  bool draining_all() const;
  // Up to `limit` namespaces whose names come after `after`, in order of name.
  std::vector<NamespaceInfo> ListNamespaces(absl::string_view after, size_t limit) const;

  // --- time and life ---

  // Brings back what the journal holds. Before any other call; blocks until it is done. What the
  // journal says is wrong is an error with a message that says what to do.
  absl::StatusOr<RecoveryReport> Recover();
  // Writes what the next start needs to go on exactly where this one stopped, and blocks until that
  // is durable, or for `grace`; closes the journal. Where leases of before the last start may still
  // show themselves it only closes the journal, and the next start opens the window for them again.
  // After Shutdown, when no call is made any more.
  absl::Status Park(Duration grace);

  // Does what is due: expiries, timeouts, evictions that limits ask for. At most 100 us under one
  // lock at a time. What takes more than 50 ms in all is left to the next call, which is asked for.
  // The reaper thread only repeats this.
  void RunOnce();
  // How long that took, each time.
  DurationHistogram<kSweepBounds> SweepStats() const;
  // Called (from any thread, with no lock held) when something needs RunOnce soon, such as a
  // lowered limit. Set before the first call; may be empty.
  void SetWakeReaper(std::function<void()> wake);
  // Refuses new Acquires with SHUTTING_DOWN and tells every waiter so. For good.
  void Shutdown();

 private:
  struct Namespace {
    std::string name;
    uint32_t id = 0;
    NamespaceSettings settings;
    bool configured = false;
    std::shared_ptr<SessionTable> table;
    std::shared_ptr<NamespaceStore> store;  // Null without a journal.
    // Since when the reaper has seen nothing in it; for those that nobody configured.
    std::optional<MonotonicTime> empty_since;
    uint64_t seen_revision = 0;  // Of its table, when the reaper looked.
  };
  // An UpdateNamespace that waits for those before it.
  struct QueuedUpdate {
    std::string name;
    SettingsEdit edit;
    Done<NamespaceInfo> done;
  };
  class Recovery;

  std::shared_ptr<SessionTable> FindTable(absl::string_view name) const
      ABSL_LOCKS_EXCLUDED(registry_mu_);
  std::shared_ptr<SessionTable> FindTable(uint32_t namespace_id) const
      ABSL_LOCKS_EXCLUDED(registry_mu_);
  absl::StatusOr<std::shared_ptr<SessionTable>> FindOrMakeTable(absl::string_view name)
      ABSL_LOCKS_EXCLUDED(registry_mu_);
  // NAMESPACE_LIMIT when there are too many, and none of them is empty. SHUTTING_DOWN.
  // With a journal, leases longer than `longest_ttl` are granted only once that is written.
  absl::StatusOr<Namespace*> MakeLocked(absl::string_view name, const NamespaceSettings& settings,
                                        Duration longest_ttl, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(registry_mu_);
  // Makes what `record` describes; `saved`: the journal has it.
  Namespace* AddLocked(NamespaceRecord record, const NamespaceSettings& settings, bool saved)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(registry_mu_);
  // Forgets what was removed, in the journal. Where that fails it is forgotten before the name is
  // used again.
  void EraseLocked(const Namespace& ns, Journal::Done done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(registry_mu_);
  std::shared_ptr<NamespaceStore> FindStore(uint32_t namespace_id) const
      ABSL_LOCKS_EXCLUDED(registry_mu_);
  // Makes an update, or takes what it is made of until it is durable.
  Answer<NamespaceInfo> StartUpdate(absl::string_view name, SettingsEdit& edit,
                                    Done<NamespaceInfo>& done) ABSL_LOCKS_EXCLUDED(registry_mu_);
  NamespaceInfo ApplyLocked(Namespace& ns, const NamespaceSettings& settings)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(registry_mu_);
  // Makes the updates that waited for one that is over, until one has to wait for the journal.
  void NextUpdate() ABSL_LOCKS_EXCLUDED(registry_mu_);
  void OnUpdateWritten(const std::string& name, uint32_t id, const NamespaceSettings& settings,
                       const absl::Status& status, Done<NamespaceInfo> done)
      ABSL_LOCKS_EXCLUDED(registry_mu_);
  AcquireResult Park(const std::shared_ptr<SessionTable>& table, absl::string_view namespace_name,
                     const AcquireParams& params, Duration ttl,
                     std::shared_ptr<AcquireObserver> observer);
  void Unpark(const std::shared_ptr<ParkedAcquire>& parked, const absl::Status& status);
  // What the store needs now and then: numbers, and that the retention of what is suspended ends.
  void MaintainStores(Instant now) ABSL_LOCKS_EXCLUDED(registry_mu_);
  // The namespace, if it was empty and is no longer there; null otherwise.
  std::unique_ptr<Namespace> RemoveIfEmptyLocked(const std::string& name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(registry_mu_);
  void RemoveEmpty(Instant now) ABSL_LOCKS_EXCLUDED(registry_mu_);
  NamespaceConfig ResolveFor(const NamespaceSettings& settings) const;
  NamespaceInfo InfoLocked(const Namespace& ns) const ABSL_SHARED_LOCKS_REQUIRED(registry_mu_);
  bool IsOrderedToDrainLocked(absl::string_view namespace_name) const
      ABSL_SHARED_LOCKS_REQUIRED(registry_mu_);
  // By either order.
  bool IsDrainingLocked(absl::string_view namespace_name) const
      ABSL_SHARED_LOCKS_REQUIRED(registry_mu_) {
    return draining_all_ || draining_.contains(namespace_name);
  }
  // Tells the tables that an order is about, and returns them.
  std::vector<std::shared_ptr<SessionTable>> ApplyDrainsLocked(absl::string_view namespace_name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(registry_mu_);
  static Explanation DescribeStored(Explanation explained, SessionInfo session);
  void WarnOf(absl::string_view name, const NamespaceSettings& settings) const;

  void WakeDispatcher() ABSL_LOCKS_EXCLUDED(wake_mu_);

  const Options options_;
  const Clock& clock_;
  const std::unique_ptr<LeaseMint> mint_;
  EventMemory event_memory_;  // The tables', which may outlive the registry but not the broker.
  std::atomic<bool> dispatcher_woken_ = false;
  Mutex wake_mu_;  // A leaf, but for what the function locks.
  std::function<void()> wake_dispatcher_ ABSL_GUARDED_BY(wake_mu_);

  // Taken before shard locks and the ledger's, when a namespace is made, changed or removed. Calls
  // hold it only to find their table.
  mutable SharedMutex registry_mu_;
  absl::flat_hash_map<std::string, std::unique_ptr<Namespace>> namespaces_
      ABSL_GUARDED_BY(registry_mu_);
  absl::flat_hash_map<uint32_t, std::shared_ptr<SessionTable>> tables_by_id_
      ABSL_GUARDED_BY(registry_mu_);
  uint32_t next_namespace_id_ ABSL_GUARDED_BY(registry_mu_) = 1;
  // Above every number that a removed namespace gave out.
  uint64_t number_floor_ ABSL_GUARDED_BY(registry_mu_) = 0;
  bool shutdown_ ABSL_GUARDED_BY(registry_mu_) = false;
  // Namespaces that are gone here and that the journal could not forget yet, by name.
  absl::flat_hash_map<std::string, std::vector<uint32_t>> unerased_ ABSL_GUARDED_BY(registry_mu_);
  bool draining_all_ ABSL_GUARDED_BY(registry_mu_) = false;
  absl::flat_hash_set<std::string> draining_ ABSL_GUARDED_BY(registry_mu_);  // Names.
  std::deque<QueuedUpdate> updates_ ABSL_GUARDED_BY(registry_mu_);
  bool updating_ ABSL_GUARDED_BY(registry_mu_) = false;
  std::atomic<MonotonicTime> next_maintenance_ = MonotonicTime{};
  std::atomic<MonotonicTime> next_empty_check_ = MonotonicTime{};
  Mutex sweeps_mu_;  // A leaf. Held to add to them; read without.
  DurationCounts<kSweepBounds> sweeps_;
  std::function<void()> wake_reaper_;  // Constant once calls come in.
};

}  // namespace broker
