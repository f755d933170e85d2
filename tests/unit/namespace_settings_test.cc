#include "server/broker/namespace_settings.h"

#include <chrono>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/base/error.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

std::string WrongFieldOf(const NamespaceConfig& config) {
  const absl::Status status = Validate(config, "config.");
  if (status.ok()) return "";
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return GetErrorInfo(status).field;
}

TEST(NamespaceSettingsTest, OwnSettingGoesBeforeTheInheritedOneAndThatBeforeTheBuiltIn) {  // C11
  NamespaceSettings own, inherited;
  own.max_sessions = 5;
  inherited.max_sessions = 7;
  inherited.max_waiters = 9;

  const NamespaceConfig config = Resolve(own, inherited, false);

  EXPECT_EQ(config.max_sessions, 5u);
  EXPECT_EQ(config.max_waiters, 9u);
  EXPECT_EQ(config.idle_ttl, 15min);
}

TEST(NamespaceSettingsTest, EveryFieldIsTakenFromTheSettings) {  // C11
  NamespaceSettings own;
  own.max_sessions = 1;
  own.max_sessions_per_owner = 2;
  own.max_waiters = 3;
  own.idle_ttl = 4s;
  own.max_lifetime = 5s;
  own.default_lease_ttl = 6s;
  own.max_lease_ttl = 7s;
  own.max_hold = 8s;
  own.init_timeout = 9s;
  own.default_wait_timeout = 10s;
  own.suspended_retention = 11s;
  own.idle_policy = IdlePolicy::kKeep;
  NamespaceConfig from_own = Resolve(own, NamespaceSettings(), true);
  const NamespaceConfig inherited = Resolve(NamespaceSettings(), own, true);

  for (const NamespaceConfig& config : {from_own, inherited}) {
    EXPECT_EQ(config.max_sessions, 1u);
    EXPECT_EQ(config.max_sessions_per_owner, 2u);
    EXPECT_EQ(config.max_waiters, 3u);
    EXPECT_EQ(config.idle_ttl, 4s);
    EXPECT_EQ(config.max_lifetime, 5s);
    EXPECT_EQ(config.default_lease_ttl, 6s);
    EXPECT_EQ(config.max_lease_ttl, 7s);
    EXPECT_EQ(config.max_hold, 8s);
    EXPECT_EQ(config.init_timeout, 9s);
    EXPECT_EQ(config.default_wait_timeout, 10s);
    EXPECT_EQ(config.suspended_retention, 11s);
    EXPECT_EQ(config.idle_policy, IdlePolicy::kKeep);
  }
}

TEST(NamespaceSettingsTest, BuiltInDefaultsAreTheDocumentedOnesAndValid) {
  const NamespaceConfig config = Resolve({}, {}, false);

  EXPECT_EQ(config.max_sessions, 1000u);
  EXPECT_EQ(config.max_sessions_per_owner, std::nullopt);
  EXPECT_EQ(config.max_waiters, 10'000u);
  EXPECT_EQ(config.idle_ttl, 15min);
  EXPECT_EQ(config.max_lifetime, 0s);
  EXPECT_EQ(config.default_lease_ttl, 30s);
  EXPECT_EQ(config.max_lease_ttl, 10min);
  EXPECT_EQ(config.max_hold, 0s);
  EXPECT_EQ(config.init_timeout, 2min);
  EXPECT_EQ(config.default_wait_timeout, 30s);
  EXPECT_EQ(config.suspended_retention, 24h * 7);
  EXPECT_EQ(WrongFieldOf(config), "");
}

TEST(NamespaceSettingsTest, PolicyThatNobodySetIsEndWithoutAStoreAndSuspendWithOne) {  // D08
  EXPECT_EQ(Resolve({}, {}, false).idle_policy, IdlePolicy::kEnd);
  EXPECT_EQ(Resolve({}, {}, true).idle_policy, IdlePolicy::kSuspend);
}

TEST(NamespaceSettingsTest, PolicyThatWasSetStaysWhatItIsWithoutAStore) {  // D08
  NamespaceSettings own;
  own.idle_policy = IdlePolicy::kSuspend;
  EXPECT_EQ(Resolve(own, {}, false).idle_policy, IdlePolicy::kSuspend);
  EXPECT_EQ(Resolve({}, own, false).idle_policy, IdlePolicy::kSuspend);
}

struct WrongConfig {
  const char* field;
  void (*spoil)(NamespaceConfig&);
};

TEST(NamespaceSettingsTest, WhatIsWrongIsNamed) {  // C11
  const std::vector<WrongConfig> cases = {
      {"max_sessions", [](NamespaceConfig& c) { c.max_sessions = 0; }},
      {"max_sessions", [](NamespaceConfig& c) { c.max_sessions = 16'777'217; }},
      {"max_waiters", [](NamespaceConfig& c) { c.max_waiters = 1'000'001; }},
      {"idle_ttl", [](NamespaceConfig& c) { c.idle_ttl = -1ns; }},
      {"idle_ttl", [](NamespaceConfig& c) { c.idle_ttl = 999us; }},
      {"idle_ttl", [](NamespaceConfig& c) { c.idle_ttl = 24h * 365 * 10 + 1s; }},
      {"max_lifetime", [](NamespaceConfig& c) { c.max_lifetime = -1s; }},
      {"max_lifetime", [](NamespaceConfig& c) { c.max_lifetime = 1us; }},
      {"max_hold", [](NamespaceConfig& c) { c.max_hold = -1s; }},
      {"init_timeout", [](NamespaceConfig& c) { c.init_timeout = -1s; }},
      {"suspended_retention", [](NamespaceConfig& c) { c.suspended_retention = -1s; }},
      {"max_lease_ttl", [](NamespaceConfig& c) { c.max_lease_ttl = 99ms; }},
      {"max_lease_ttl", [](NamespaceConfig& c) { c.max_lease_ttl = 10min + 1ns; }},
      {"default_lease_ttl", [](NamespaceConfig& c) { c.default_lease_ttl = 0s; }},
      {"default_lease_ttl", [](NamespaceConfig& c) { c.default_lease_ttl = 11min; }},
      {"default_lease_ttl", [](NamespaceConfig& c) { c.max_lease_ttl = c.default_lease_ttl - 1s; }},
      {"default_wait_timeout", [](NamespaceConfig& c) { c.default_wait_timeout = -1ns; }},
      {"default_wait_timeout", [](NamespaceConfig& c) { c.default_wait_timeout = 1h + 1ns; }},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    NamespaceConfig config;
    cases[i].spoil(config);
    EXPECT_EQ(WrongFieldOf(config), std::string("config.") + cases[i].field) << "case " << i;
  }
}

TEST(NamespaceSettingsTest, BoundsThemselvesAreRight) {  // C11
  NamespaceConfig config;
  config.max_sessions = 16'777'216;
  config.max_sessions_per_owner = 0;
  config.max_waiters = 0;
  config.idle_ttl = 1ms;
  config.max_lifetime = 24h * 365 * 10;
  config.max_hold = 0s;
  config.init_timeout = 0s;
  config.suspended_retention = 0s;
  config.default_lease_ttl = config.max_lease_ttl = kMinLeaseTtl;
  config.default_wait_timeout = 0s;
  EXPECT_EQ(WrongFieldOf(config), "");
  config.default_wait_timeout = kMaxWaitTimeout;
  config.max_lease_ttl = config.default_lease_ttl = 10min;
  config.max_waiters = 1'000'000;
  EXPECT_EQ(WrongFieldOf(config), "");
}

TEST(NamespaceSettingsTest, MessageSaysTheBoundAndTheValue) {  // C11
  NamespaceConfig config;
  config.max_lease_ttl = 11min;

  const std::string message(Validate(config, "namespaces[0].config.").message());

  EXPECT_NE(message.find("namespaces[0].config.max_lease_ttl"), std::string::npos) << message;
  EXPECT_NE(message.find("600 s"), std::string::npos) << message;
  EXPECT_NE(message.find("660 s"), std::string::npos) << message;
}

}  // namespace
}  // namespace broker
