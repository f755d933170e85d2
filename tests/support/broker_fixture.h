#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/broker/broker.h"
#include "tests/support/acquire_call.h"
#include "tests/support/fake_clock.h"

namespace broker {

// A Broker whose clock and reaper a test moves by hand. Tests change `options_` before they first
// use it.
class BrokerTest : public ::testing::Test {
 protected:
  Broker& broker() {
    if (broker_ == nullptr) {
      options_.warn = [this](absl::string_view event, absl::string_view namespace_name) {
        warnings_.push_back(std::string(event) + ": " + std::string(namespace_name));
      };
      broker_ = std::make_unique<Broker>(options_, clock_);
    }
    return *broker_;
  }

  AcquireCall Acquire(const std::string& namespace_name, const std::string& key,
                      std::optional<Duration> wait_timeout = std::nullopt) {
    AcquireParams params;
    params.key = key;
    params.holder = "holder";
    params.wait_timeout = wait_timeout;
    auto observer = std::make_shared<RecordingObserver>();
    Broker::AcquireResult result = broker().Acquire(namespace_name, params, observer);
    if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) {
      return AcquireCall(observer, std::move(*outcome));
    }
    pending_.push_back(std::get<Broker::PendingAcquire>(result));
    return AcquireCall(observer, pending_.back().ticket);
  }
  // Cancels the call that was queued last.
  void CancelLast(const AcquireCall& call) {
    broker().CancelAcquire(pending_.back(), &call.observer());
  }
  // A lease on a session that is up.
  std::string Create(const std::string& namespace_name, const std::string& key) {
    const AcquireCall call = Acquire(namespace_name, key);
    const std::string id = broker().LeaseIdOf(call.lease());
    EXPECT_THAT(broker().Activate(id, {.endpoint = "here"}).status(), IsOk());
    return id;
  }
  LeaseStatus Renew(const std::string& lease_id) { return broker().Renew({lease_id})[0].status; }
  void AdvanceAndRun(Duration by) {
    clock_.Advance(by);
    broker().RunOnce();
  }

  absl::Status Configure(const std::string& name, void (*edit)(NamespaceSettings&)) {
    return broker()
        .UpdateNamespace(name,
                         [&](NamespaceSettings& settings) {
                           edit(settings);
                           return absl::OkStatus();
                         })
        .status();
  }
  std::vector<std::string> Namespaces() {
    std::vector<std::string> names;
    for (const NamespaceInfo& info : broker().ListNamespaces("", 10'000)) {
      names.push_back(info.name);
    }
    return names;
  }

  FakeClock clock_;
  Broker::Options options_;
  std::vector<std::string> warnings_;

 private:
  std::unique_ptr<Broker> broker_;
  std::vector<Broker::PendingAcquire> pending_;
};

}  // namespace broker
