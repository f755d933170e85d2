#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "server/events/event_hub.h"
#include "server/session/capacity_ledger.h"
#include "server/session/durations.h"
#include "server/session/event_encoder.h"
#include "server/session/notes.h"
#include "server/session/table_store.h"
#include "server/session/types.h"

namespace broker {

// A count that one thread at a time changes, under a lock, and any thread reads without it.
class Count {
 public:
  void Add(int64_t by) {
    value_.store(value_.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_ = 0;
};

// What one shard has counted. TableStats says what they mean.
struct ShardCounts {
  Count initializing, active, pinned, suspending, ending, suspended, leases, waiters;
  Count acquired_held, acquired_created, releases, releases_unmatched, renewals;
  Count leases_expired, leases_revoked, leases_adopted, invariant_violations;
  Count skips_store_disabled, skips_store_failed, skips_no_checkpoint;
  Count resumes, resumes_failed, suspends_aborted, checkpoints;
  std::array<Count, kReasonCount> refusals;
  std::array<Count, kEndCauseCount> ends;
  DurationCounts<kWaitBounds> waits;
  DurationCounts<kHoldBounds> holds;
  DurationCounts<kInitBounds> inits, failed_inits;
  DurationCounts<kLatenessBounds> lapse_lateness;
};

// Where events go and how they are written.
struct TableEventOptions {
  const EventEncoder* encoder = nullptr;  // Null: nobody reads them.
  EventMemory* memory = nullptr;          // Shared by all namespaces. Null: its own.
  EventHub::Options hub;                  // But for first_revision, which is first_number.
  // Has EventHub::Dispatch called soon. Called with no lock held; may be empty.
  std::function<void()> wake_dispatcher;
};

// The state of a table that its shards share. Thread-safe.
struct TableContext {
  TableContext(std::string name, uint32_t id, uint64_t first, TableStore* table_store,
               const NamespaceConfig& config, TableEventOptions events_wanted = {},
               uint64_t first_revision = 0)
      : namespace_name(std::move(name)),
        namespace_id(id),
        first_number(first),
        store(table_store),
        ledger(config.max_sessions, config.max_sessions_per_owner),
        next_number(first_number + 1),
        event_options(std::move(events_wanted)),
        events(WithFirstRevision(event_options.hub,
                                 first_revision != 0 ? first_revision : first_number),
               event_options.memory != nullptr ? *event_options.memory : own_event_memory) {}

  // Counts a waiter against the bound, or does not and returns false.
  bool CountWaiter(uint32_t bound) {
    if (waiters.fetch_add(1, std::memory_order_relaxed) < bound) return true;
    waiters.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }

  // Whether so many numbers are left that calls may use some up. What goes on by itself, such as
  // waiters that are served, may use the rest.
  bool numbers_low() const {
    constexpr uint64_t kReserve = uint64_t{1} << 24;
    return next_number.load(std::memory_order_relaxed) + kReserve >
               numbers_end.load(std::memory_order_relaxed) ||
           events.last_revision() + kReserve > revisions_end.load(std::memory_order_relaxed);
  }
  // Restored sessions are protected, and leases of before the restart may be adopted.
  bool recovering(MonotonicTime now) const {
    return now < recovery_end.load(std::memory_order_relaxed);
  }

  const std::string namespace_name;
  const uint32_t namespace_id;
  const uint64_t first_number;  // No number of this life is below.
  TableStore* const store;      // Null: nothing is durable.
  CapacityLedger ledger;
  // Generations and fencing tokens. Shards take them in blocks: a key never changes its shard, so
  // that the numbers of one key grow all the same.
  std::atomic<uint64_t> next_number;
  // What may be given out: below these. Without a store there is no end.
  std::atomic<uint64_t> numbers_end = std::numeric_limits<uint64_t>::max();
  std::atomic<uint64_t> revisions_end = std::numeric_limits<uint64_t>::max();
  std::atomic<MonotonicTime> recovery_end = MonotonicTime::min();
  // The longest lease that the store knows may be out: how long a recovery takes.
  std::atomic<Duration> longest_ttl = Duration::max();
  // How often in a row what was to be taken away could not be made durable, and until when nothing
  // is tried because of that.
  std::atomic<uint32_t> store_failures = 0;
  std::atomic<MonotonicTime> store_retry = MonotonicTime::min();
  // An Activate could not be written, and would turn out to be there if power were lost now.
  std::atomic<bool> activation_in_doubt = false;
  std::atomic<uint64_t> arrivals = 0;
  std::atomic<uint32_t> waiters = 0;             // For max_waiters.
  std::vector<const ShardCounts*> shard_counts;  // Constant once the table is built.
  const TableEventOptions event_options;
  Notes* notes = nullptr;  // Constant once the table is built. Null: nobody reads them.
  EventMemory own_event_memory;
  EventHub events;
  // How often a session became idle while somebody waited for an eviction.
  std::atomic<uint64_t> idle_arrivals = 0;
  // Suspended records in all shards, for their bound.
  std::atomic<uint64_t> suspended = 0;

 private:
  static EventHub::Options WithFirstRevision(EventHub::Options options, uint64_t first) {
    options.first_revision = first;
    return options;
  }
};

}  // namespace broker
