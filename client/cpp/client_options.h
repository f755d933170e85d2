#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "client/cpp/retry.h"
#include "client/cpp/time_types.h"
#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker {

// Every field of these has an initializer, so that {.key = "a"} gives no warning about the others.

struct ClientOptions {
  // Who this is, for operators who look at sessions and leases: it grants nothing. At most 128
  // bytes. Empty: "HOST:PID".
  std::string holder = {};
  // For every call that the client makes, and for the pace of renewals that fail.
  RetryPolicy retry = {};
  // How long Activate, FailInit, Checkpoint and Release may take, retries included. Acquire has its
  // own.
  Duration call_timeout = std::chrono::seconds(10);
  // How long the destructor of a pin may take to release it, and Acquire to give back a pin that it
  // could not confirm. If the broker is not reached by then, the lease is left to lapse by its ttl.
  Duration destructor_timeout = std::chrono::seconds(1);
  // Calls that threads make at the same time share the messages of one stream (see BrokerStub),
  // where the broker has that; the answers are the same. False: each is an RPC of its own. For
  // networks with a proxy in between that keeps the messages of a stream back until it ends: calls
  // over it would get no answer.
  bool pipeline = true;
  // Of the jitter of renewals and retries, for tests that want the same one again; 0: from the
  // system.
  uint64_t seed = 0;
};

struct AcquireOptions {
  std::string namespace_name = {};  // At most 63 bytes; empty: "default".
  std::string key = {};             // 1 to 256 bytes.
  // On whose quota a session counts that this call creates; at most 128 bytes, empty: nobody's.
  std::string owner = {};
  v1::PinMode mode = v1::PIN_MODE_SHARED;
  // IF_ABSENT_FAIL: NOT_FOUND instead of creating the session.
  v1::IfAbsent if_absent = v1::IF_ABSENT_CREATE;
  // How long the broker keeps the pin without hearing of this process: how soon others get on after
  // this one dies. Unset: the namespace's default (30 s unless configured). The broker clamps it,
  // to no less than 100 ms.
  std::optional<Duration> lease_ttl = {};
  // How long to wait for others: the initializer, other pins, a free slot. Zero: not at all. Unset:
  // the namespace's default (30 s unless configured). The broker clamps it to an hour.
  std::optional<Duration> wait_timeout = {};
  // How long the call may take in all, retries included. Unset: wait_timeout and 10 s more, which
  // leaves the broker time to say what was waited for; 40 s if wait_timeout is unset too. Giving
  // back a pin that came too late may take destructor_timeout on top.
  std::optional<Duration> timeout = {};
  // Of a session that this call creates; at most 32 of 63 + 256 bytes.
  std::map<std::string, std::string> labels = {};
};

}  // namespace sessionbroker
