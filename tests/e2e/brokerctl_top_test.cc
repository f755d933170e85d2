// `brokerctl top` on a terminal.

#include "absl/strings/str_cat.h"
#include "client/cli/top_output.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/brokerctl_process.h"
#include "tests/e2e/brokerctl_terminal.h"
#include "tests/support/await.h"
#include "tests/support/fake_admin_service.h"

namespace broker {
namespace {

using ::sessionbroker::cli::FitScreen;
using ::testing::HasSubstr;

v1::Namespace Namespace(const std::string& name) {
  v1::Namespace entry;
  entry.set_name(name);
  entry.mutable_config()->set_max_sessions(10);
  return entry;
}

// A shell on a terminal that runs top, and says its exit code.
std::string TopScript(const std::string& endpoint, const std::string& flags) {
  return absl::StrCat(ChildProcess::Sibling("brokerctl"), " --endpoint ", endpoint, " top ", flags,
                      "; echo code $?");
}

TEST(BrokerctlTopTest, ATerminalIsRefreshedUntilCtrlC) {
  FakeAdminService fake;
  fake.AddNamespace(Namespace("first"));
  Terminal terminal(TopScript(fake.endpoint(), "--interval 100ms"));
  EXPECT_THAT(terminal.ReadUntil("first"), HasSubstr("every 100ms"));

  fake.SetNamespaces({Namespace("second")});
  EXPECT_THAT(terminal.ReadUntil("second"), HasSubstr("second"));

  terminal.Type("\x03");
  EXPECT_THAT(terminal.ReadUntil("code 0"), HasSubstr("code 0"));
}

TEST(BrokerctlTopTest, OnceIsOnceOnATerminalToo) {
  FakeAdminService fake;
  fake.AddNamespace(Namespace("first"));
  Terminal terminal(TopScript(fake.endpoint(), "--once"));

  EXPECT_THAT(terminal.ReadUntil("code 0"), HasSubstr("first"));
  EXPECT_EQ(fake.calls("ListNamespaces"), 1);
}

TEST(BrokerctlTopTest, ABrokerThatIsAwayForAWhileIsSaidAndWaitedFor) {
  FakeAdminService fake;
  fake.AddNamespace(Namespace("first"));
  Terminal terminal(TopScript(fake.endpoint(), "--interval 100ms"));
  terminal.ReadUntil("first");

  fake.Stop();
  EXPECT_THAT(terminal.ReadUntil("NOT UP TO DATE"), HasSubstr("NOT UP TO DATE"));
  EXPECT_THAT(terminal.ReadUntil("first"), HasSubstr("first"));  // What was known last.

  fake.SetNamespaces({Namespace("second")});
  fake.Start();
  EXPECT_THAT(terminal.ReadUntil("second"), HasSubstr("second"));
}

TEST(BrokerctlTopTest, ABrokerThatWasNeverThereIsThree) {
  Terminal terminal(TopScript("127.0.0.1:1", ""));

  EXPECT_THAT(terminal.ReadUntil("code 3"), HasSubstr("is the broker running at 127.0.0.1:1?"));
}

TEST(BrokerctlTopTest, AnIntervalThatIsNoneIsRefused) {
  EXPECT_EQ(RunCtl("127.0.0.1:1", {"top", "--interval", "0s"}).code, 2);
}

TEST(FitScreenTest, WhatFitsStaysAsItIs) {
  EXPECT_EQ(FitScreen("a\nb\n", 2, 80), "a\nb\n");
  EXPECT_EQ(FitScreen("", 2, 80), "");
}

TEST(FitScreenTest, LinesThatDoNotFitAreCounted) {
  EXPECT_EQ(FitScreen("a\nb\nc\nd\n", 3, 80), "a\nb\n... and 2 more\n");
}

TEST(FitScreenTest, LongLinesAreCutBetweenCharacters) {
  EXPECT_EQ(FitScreen("abcdef\n\u00e4\u00f6\u00fc\u00df\n", 5, 3), "abc\n\u00e4\u00f6\u00fc\n");
}

}  // namespace
}  // namespace broker
