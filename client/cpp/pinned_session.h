#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "client/cpp/held_lease.h"
#include "client/cpp/time_types.h"
#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker {

struct ClientCore;

// A session that this process holds. While it lives, the broker takes the session away for nothing
// but End; its lease is renewed in the background, and released exactly once: by Release(), by
// FailInit(), or by the destructor, whichever comes first.
//
//     absl::StatusOr<PinnedSession> pin = client.Acquire({.key = "browser-7"});
//     if (!pin.ok()) return pin.status();
//     if (pin->must_initialize()) {
//       absl::StatusOr<std::string> address = StartBrowser(pin->checkpoint());
//       if (!address.ok()) return pin->FailInit(std::string(address.status().message()));
//       if (absl::Status status = pin->Activate(*address); !status.ok()) return status;
//     }
//     Browse(pin->endpoint());
//     return pin->Release();
//
// The lease can be lost all the same: End, an operator, the namespace's max_hold, or a broker that
// was not reached for a whole ttl (counted from before the last renewal that it answered was sent).
// Then lost() turns true and the on-lost callback follows: where the broker has taken the lease,
// with the next renewal (at a third of the ttl) or the next call that it refuses as LEASE_LOST;
// where it lapsed, no later than somebody else can get hold of the session by it. Work that must
// not overlap with the next holder's checks lost() before each step, and hands fencing_token() to
// the resource, which refuses an older one: only the resource can rule out the step that was under
// way, or those until a lease that was taken is known to be.
//
// Movable. Not thread-safe, except lost(), loss() and the other const methods. Its Client must
// outlive it. A pin that was moved from, or default-constructed, holds nothing: valid() is false,
// and only that, assignment and destruction are allowed.
class PinnedSession {
 public:
  PinnedSession() = default;
  PinnedSession(PinnedSession&& other) noexcept;
  // Releases what it held before, as the destructor does.
  PinnedSession& operator=(PinnedSession&& other) noexcept;
  // Releases the pin if that has not happened. Blocks for at most ClientOptions::destructor_timeout
  // (1 s unless set), also when the broker is gone; in that case the lease lapses by its ttl. An
  // initializer that has given no verdict thereby leaves the work to the next waiter. Waits for the
  // on-lost callback if that is running, except when called from inside it.
  ~PinnedSession();

  bool valid() const { return lease_ != nullptr; }

  // --- what was acquired ---

  const std::string& key() const { return session_.key(); }
  const std::string& namespace_name() const { return session_.namespace_(); }
  uint64_t generation() const { return session_.generation(); }
  // Where the resource is reached; empty until it is activated.
  const std::string& endpoint() const { return session_.endpoint(); }
  // Greater than every token granted on this session before.
  uint64_t fencing_token() const { return fencing_token_; }
  // The bearer secret behind this pin. Not to be logged.
  const std::string& lease_id() const { return lease_->id(); }

  // This holder must build the resource, then call Activate, or FailInit if it cannot. Others wait
  // for that, up to the namespace's init_timeout. False once it has been done.
  bool must_initialize() const { return must_initialize_; }
  // With must_initialize: there was such a resource before, and what it held beyond its checkpoint
  // is gone.
  bool reset() const { return reset_; }
  // With must_initialize: what to restore the resource from; nullptr if there is nothing, and once
  // it is activated.
  const v1::SessionCheckpoint* checkpoint() const { return checkpoint_.get(); }
  // With must_initialize: the session that was evicted to make room, whose resource may still run
  // and may have to be torn down. nullptr if none was.
  const v1::Session* displaced() const { return displaced_.get(); }

  // --- the initializer's verdict ---

  // The resource is up and reached at `endpoint` (at most 512 bytes); lets in those who wait. The
  // pin stays. `labels` are merged over those of Acquire. `checkpoint` is what to restore it from
  // until there is a newer one; without, that is the one that it was restored from. Retried while
  // the broker is unavailable, up to call_timeout. Errors: LEASE_LOST (the lease or the time to
  // initialize ran out, or the session was ended: tear the resource down), NOT_INITIALIZER,
  // INVALID_ARGUMENT, STORE_DISABLED (a checkpoint, and the broker keeps nothing),
  // STORE_UNAVAILABLE. After an error must_initialize() stays true.
  absl::Status Activate(const std::string& endpoint,
                        const std::map<std::string, std::string>& labels = {},
                        const std::optional<std::string>& checkpoint = std::nullopt);
  // The resource could not be built. Everybody who waits gets INIT_FAILED with `message` (cut to 1
  // KiB) and `retry_after` (zero: none). Ends the pin, whatever is returned: OK if the broker has
  // heard it, LEASE_LOST if the lease was over before, or the error of the call.
  absl::Status FailInit(const std::string& message, Duration retry_after = Duration::zero());

  // --- what the session can be restored from ---

  // Makes `data` (at most max_checkpoint_bytes) durable as what the next initializer gets; replaces
  // what was there. Whoever else holds the session may do the same, and the last one counts.
  // Retried while the broker or its store is unavailable, up to call_timeout. Errors: LEASE_LOST,
  // SESSION_NOT_ACTIVE (during init: hand it to Activate), STORE_DISABLED, INVALID_ARGUMENT (too
  // large), STORE_UNAVAILABLE. After an error the checkpoint is the earlier one; after UNAVAILABLE
  // or DEADLINE_EXCEEDED without a reason it may be either. The pin stays in any case.
  absl::Status Checkpoint(const std::string& data);

  // --- the end ---

  // Gives the pin back. DISPOSITION_DISCARD says that the resource is broken: this generation ends
  // for every holder, and the next Acquire builds a new one. Ends the pin, whatever is returned: OK
  // if it was held until now; LEASE_LOST if it was not, which means that others may have used the
  // session meanwhile; the error of the call if the broker was not reached within call_timeout (the
  // lease then lapses by its ttl); FAILED_PRECONDITION without a reason if the pin was released or
  // failed before.
  absl::Status Release(v1::Disposition disposition = v1::DISPOSITION_KEEP);
  // The same, with a last checkpoint that is durable before the pin is dropped; the lease is
  // renewed until then. If the broker refuses it, the pin is released without, and the error says
  // why: as Checkpoint's, beside those above. Who would rather keep the pin then calls Checkpoint
  // first.
  absl::Status ReleaseWithCheckpoint(const std::string& data,
                                     v1::Disposition disposition = v1::DISPOSITION_KEEP);

  // --- loss ---

  // True from the moment at which this process must not rely on the session any more. Reads a
  // clock, takes an uncontended lock, waits for nothing. Stays true. A pin that was released is not
  // lost.
  bool lost() const { return lease_->lost(); }
  // Why, at the latest when the callback is called.
  std::optional<Loss> loss() const { return lease_->loss(); }
  // `callback` is called once if the lease is lost, on the client's renewal thread, which serves
  // all pins: it must return at once and not call the broker. It may destroy this pin, also by
  // having been the last to own it. If the lease is lost already it is called here and now, before
  // OnLost returns. Replaces an earlier callback. After Release, FailInit or the destructor has
  // returned, it is neither running nor called any more, and destroyed (unless they are called from
  // inside it).
  void OnLost(::sessionbroker::OnLost callback);

 private:
  friend class Client;
  PinnedSession(ClientCore* core, std::shared_ptr<HeldLease> lease, v1::AcquireResponse response);

  // Stops renewing; false if there is nothing to give up.
  bool GiveUp();
  // `data`: the checkpoint, if not null.
  absl::Status SendRelease(v1::Disposition disposition, const std::string* data,
                           TimePoint deadline);
  // Returns `status`; if it says that the lease is lost, that is known from then on, and not only
  // by the next renewal.
  absl::Status Heed(absl::Status status);
  // Why GiveUp() said no, in words.
  absl::Status NotHeldError() const;
  // Releases unless that was done, and lets go of everything.
  void Reset();

  ClientCore* core_ = nullptr;
  std::shared_ptr<HeldLease> lease_;  // Null when this holds nothing.
  v1::Session session_;
  std::unique_ptr<v1::Session> displaced_;
  std::unique_ptr<v1::SessionCheckpoint> checkpoint_;
  uint64_t fencing_token_ = 0;
  bool must_initialize_ = false;
  bool reset_ = false;
};

}  // namespace sessionbroker
