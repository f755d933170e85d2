// What operators do with brokerctl, against the real broker.

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "client/cpp/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/brokerctl_process.h"
#include "tests/support/await.h"
#include "tests/support/temp_dir.h"

namespace broker {
namespace {

namespace v1 = sessionbroker::v1;
using sessionbroker::Client;
using sessionbroker::GetErrorDetails;
using sessionbroker::Loss;
using sessionbroker::PinnedSession;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}
std::vector<std::string> Cells(const std::string& line) {
  return absl::StrSplit(line, ' ', absl::SkipEmpty());
}

class BrokerctlLiveOperatorTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(broker_.address(), ""); }

  CtlResult Ctl(const std::vector<std::string>& args) { return RunCtl(broker_.address(), args); }
  // The output of a command that must succeed.
  std::string Out(const std::vector<std::string>& args) {
    const CtlResult result = Ctl(args);
    EXPECT_EQ(result.code, 0) << result.errors;
    EXPECT_EQ(result.errors, "");
    return result.out;
  }
  // A pin on an active session.
  PinnedSession MustPin(const std::string& key, v1::PinMode mode = v1::PIN_MODE_SHARED) {
    absl::StatusOr<PinnedSession> pin =
        client_.Acquire({.key = key, .mode = mode, .lease_ttl = std::chrono::seconds(2)});
    EXPECT_TRUE(pin.ok()) << pin.status();
    if (!pin.ok()) return PinnedSession();
    if (pin->must_initialize()) {
      EXPECT_EQ(pin->Activate("here"), absl::OkStatus());
    }
    return *std::move(pin);
  }

  TempDir directory_;
  BrokerProcess broker_{{"--data-dir", directory_ / "data"}};
  Client client_{broker_.address(), {.holder = "web-3"}};
};

TEST_F(BrokerctlLiveOperatorTest, LeasesSayWhoHoldsWhat) {
  PinnedSession shared = MustPin("a");
  PinnedSession alone = MustPin("b", v1::PIN_MODE_EXCLUSIVE);

  const std::string out = Out({"leases"});

  const std::vector<std::string> lines = Lines(out);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(Cells(lines[1])[1], "a");
  EXPECT_EQ(Cells(lines[2])[1], "b");
  EXPECT_EQ(Cells(lines[2])[3], "EXCLUSIVE");
  EXPECT_EQ(Cells(lines[2])[4], "web-3");
  EXPECT_THAT(out, Not(HasSubstr(shared.lease_id())));  // A handle cannot renew or release.
  EXPECT_EQ(Lines(Out({"leases", "--key", "b"})).size(), 2u);
  EXPECT_EQ(Lines(Out({"leases", "--holder", "web-4"})).size(), 1u);
}

// More than a page of the broker's holds.
TEST_F(BrokerctlLiveOperatorTest, LeasesAreListedToTheLast) {
  Out({"namespace", "set", "default", "--max-sessions", "2000"});
  std::vector<PinnedSession> pins;
  for (int i = 0; i < 1200; ++i) {
    absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = absl::StrCat("key-", i)});
    ASSERT_TRUE(pin.ok()) << pin.status();
    pins.push_back(*std::move(pin));
  }

  EXPECT_EQ(Lines(Out({"leases"})).size(), 1201u);
}

// B10
TEST_F(BrokerctlLiveOperatorTest, ARevokedLeaseIsLostToItsHolderWithTheReason) {
  PinnedSession pin = MustPin("a");
  const std::string handle = Cells(Lines(Out({"leases"})).at(1)).front();

  EXPECT_EQ(Out({"revoke", handle, "--reason", "stuck"}), "revoked\n");

  ASSERT_TRUE(Await([&] { return pin.loss().has_value(); }));
  EXPECT_EQ(pin.loss()->ToString(), "REVOKED");
  EXPECT_EQ(GetErrorDetails(pin.Checkpoint("state")).reason, "LEASE_LOST");
  EXPECT_EQ(Out({"revoke", handle}),
            "nothing to revoke: that lease is over, or was listed before a restart; see `brokerctl "
            "leases`\n");
  EXPECT_EQ(Field(Out({"get", "a"}), "pins"), "0");
}

TEST_F(BrokerctlLiveOperatorTest, RevokingByHolderLeavesTheOthers) {
  PinnedSession mine = MustPin("a");
  Client other(broker_.address(), {.holder = "web-4"});
  absl::StatusOr<PinnedSession> theirs = other.Acquire({.key = "a"});
  ASSERT_TRUE(theirs.ok()) << theirs.status();

  EXPECT_EQ(Lines(Out({"revoke", "--holder", "web-3"})).size(), 2u);

  EXPECT_EQ(Lines(Out({"leases"})).size(), 2u);
  EXPECT_EQ(theirs->Release(), absl::OkStatus());
  EXPECT_EQ(GetErrorDetails(mine.Release()).reason, "LEASE_LOST");
}

TEST_F(BrokerctlLiveOperatorTest, ExplainSaysWhoHoldsAndWhatHappened) {
  PinnedSession pin = MustPin("a", v1::PIN_MODE_EXCLUSIVE);
  const auto waiter = StartCtl(broker_.address(), {"acquire", "a", "--holder", "patient"});
  ASSERT_TRUE(Await([&] {
    return Ctl({"explain", "a"}).out.find("patient") != std::string::npos;
  }));

  const std::string out = Out({"explain", "a"});

  EXPECT_EQ(Field(out, "state"), "ACTIVE");
  EXPECT_NE(Field(out, "reaper"), "");
  EXPECT_NE(Field(out, "reaper"), "-");
  EXPECT_THAT(out, HasSubstr("\nLeases (1)\n"));
  EXPECT_THAT(out, HasSubstr("web-3"));
  EXPECT_EQ(Cells(Field(out, "patient")).front(), "pin");
  EXPECT_THAT(out, HasSubstr("ACTIVATED"));
  EXPECT_EQ(Ctl({"explain", "b"}).code, 4);
}

TEST_F(BrokerctlLiveOperatorTest, ADrainRefusesNewcomersAndEndsWithTheLastPin) {
  PinnedSession pin = MustPin("a");
  const auto drain = StartCtl(broker_.address(), {"drain", "default"});
  EXPECT_EQ(drain->ReadLine(), "1 pin left, 0 waiters");
  EXPECT_THAT(Out({"namespace", "list"}), HasSubstr("yes\n"));

  const CtlResult refused = Ctl({"acquire", "b", "--wait", "0", "--timeout", "1s"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.errors, StartsWith("brokerctl: DRAINING: "));
  EXPECT_THAT(refused.errors, HasSubstr("brokerctl undrain"));
  EXPECT_THAT(refused.errors, HasSubstr("not before 5s from now"));

  EXPECT_EQ(pin.Release(), absl::OkStatus());
  const CtlResult drained = FinishCtl(*drain);
  EXPECT_EQ(drained.code, 0) << drained.errors;
  EXPECT_EQ(Lines(drained.out).back(), "drained: no pin is left");
  EXPECT_EQ(Out({"undrain", "default"}), "undrained\n");
  EXPECT_EQ(MustPin("b").Release(), absl::OkStatus());
}

TEST_F(BrokerctlLiveOperatorTest, ADrainThatIsUndrainedSaysSo) {
  PinnedSession pin = MustPin("a");
  const auto drain = StartCtl(broker_.address(), {"drain", "--all"});
  EXPECT_EQ(drain->ReadLine(), "1 pin left, 0 waiters");
  EXPECT_EQ(Ctl({"health"}).code, 3);

  Out({"undrain", "--all"});

  const CtlResult result = FinishCtl(*drain);
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.errors, StartsWith("brokerctl: UNDRAINED: "));
  EXPECT_EQ(Ctl({"health"}).code, 0);
}

TEST_F(BrokerctlLiveOperatorTest, PinsThatOutlastTheTimeoutOfADrainAreOne) {
  PinnedSession pin = MustPin("a");

  const CtlResult result = Ctl({"drain", "default", "--timeout", "700ms"});

  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.errors, StartsWith("brokerctl: 1 pin left; the drain goes on"));
  EXPECT_EQ(Ctl({"acquire", "b", "--wait", "0", "--timeout", "1s"}).code, 3);
}

TEST_F(BrokerctlLiveOperatorTest, TopShowsWhatIsUsed) {
  Out({"namespace", "set", "busy", "--max-sessions", "2"});
  PinnedSession pin = MustPin("a");
  Out({"acquire", "b", "-n", "busy"});

  const std::vector<std::string> lines = Lines(Out({"top"}));

  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0], "namespaces: 2  sessions: 2  suspended: 0  leases: 2  waiters: 0");
  EXPECT_THAT(Cells(lines[2]),
              ElementsAre("busy", "1/2", "50%", "1", "0", "0", "0", "0", "0", "1", "0", "-"));
  EXPECT_THAT(Cells(lines[3]),
              ElementsAre("default", "1/1000", "0%", "0", "1", "1", "0", "0", "0", "1", "0", "-"));
}

}  // namespace
}  // namespace broker
