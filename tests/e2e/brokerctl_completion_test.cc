// `brokerctl completion`: what bash offers once it has read the script.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/brokerctl_process.h"

namespace broker {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// What is offered for the last of `words` (which bash has split), in a shell that has read the
// script.
std::vector<std::string> Complete(const std::vector<std::string>& words) {
  const std::string script = absl::StrCat(
      "source <(\"$0\" completion bash) || exit 1; "
      "COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _brokerctl; "
      "printf '%s\\n' \"${COMPREPLY[@]}\"; complete -p brokerctl");
  std::vector<std::string> args = {"-c", script, ChildProcess::Sibling("brokerctl"), "brokerctl"};
  args.insert(args.end(), words.begin(), words.end());
  ChildProcess bash("/bin/bash", args);
  const CtlResult result = FinishCtl(bash);
  EXPECT_EQ(result.code, 0) << result.errors;
  EXPECT_EQ(result.errors, "");
  std::vector<std::string> offered = absl::StrSplit(result.out, '\n', absl::SkipEmpty());
  EXPECT_FALSE(offered.empty());
  if (offered.empty()) return offered;
  EXPECT_EQ(offered.back(), "complete -o default -F _brokerctl brokerctl");
  offered.pop_back();
  return offered;
}

TEST(BrokerctlCompletionTest, CommandsAreOffered) {
  EXPECT_THAT(Complete({""}), AllOf(Contains("acquire"), Contains("namespace"), Contains("top"),
                                    Contains("completion"), Not(Contains("set"))));
  EXPECT_THAT(Complete({"re"}), ElementsAre("renew", "release", "revoke"));
  EXPECT_THAT(Complete({"namespace", ""}), ElementsAre("get", "set", "list", "delete"));
  EXPECT_THAT(Complete({"completion", ""}), ElementsAre("bash", "zsh", "fish"));
}

TEST(BrokerctlCompletionTest, FlagsOfTheCommandAndOfAllAreOffered) {
  EXPECT_THAT(Complete({"acquire", "a", "--t"}), ElementsAre("--timeout", "--ttl"));
  EXPECT_THAT(Complete({"namespace", "set", "a", "--max-s"}),
              ElementsAre("--max-sessions", "--max-sessions-per-owner"));
  EXPECT_THAT(Complete({"-"}), AllOf(Contains("--endpoint"), Contains("--version"), Contains("-o"),
                                     Not(Contains("--ttl"))));
}

TEST(BrokerctlCompletionTest, ValuesAreOfferedWhereThereAreFew) {
  EXPECT_THAT(Complete({"list", "--state", "susp"}), ElementsAre("suspending", "suspended"));
  EXPECT_THAT(Complete({"get", "a", "-o", ""}), ElementsAre("table", "json"));
  EXPECT_THAT(Complete({"get", "a", "--output", "=", "j"}), ElementsAre("json"));
  EXPECT_THAT(Complete({"get", "a", "--output", "="}), ElementsAre("table", "json"));
  EXPECT_THAT(Complete({"namespace", "set", "a", "--idle-policy", "k"}), ElementsAre("keep"));
}

TEST(BrokerctlCompletionTest, NothingIsOfferedWhereItCouldOnlyBeWrong) {
  EXPECT_THAT(Complete({"acquire", "--ttl", ""}), IsEmpty());
  EXPECT_THAT(Complete({"get", "list", ""}), IsEmpty());  // A key; nothing comes behind it.
  EXPECT_THAT(Complete({"run", "-k", "a", "--", "re"}), IsEmpty());
}

// The value of a flag, or a key, may be named as a command is.
TEST(BrokerctlCompletionTest, WhatOnlyLooksLikeACommandIsNone) {
  EXPECT_THAT(Complete({"--endpoint", "list", "na"}), ElementsAre("namespace"));
  EXPECT_THAT(Complete({"--endpoint", "=", "list", "na"}), ElementsAre("namespace"));
  EXPECT_THAT(Complete({"get", "watch", "--p"}), IsEmpty());  // --prefix is a flag of watch.
}

// There is no zsh and no fish to ask here.
TEST(BrokerctlCompletionTest, TheOtherShellsAreToldOfEveryCommandToo) {
  for (const char* shell : {"zsh", "fish"}) {
    const CtlResult result = RunCtl("127.0.0.1:1", {"completion", shell});
    EXPECT_EQ(result.code, 0) << result.errors;
    EXPECT_EQ(result.errors, "");
    for (const char* word : {"acquire", "namespace set", "undrain", "idle-policy", "suspended"}) {
      EXPECT_THAT(result.out, HasSubstr(word)) << shell;
    }
  }
}

TEST(BrokerctlCompletionTest, AnotherShellIsAUsageError) {
  EXPECT_EQ(RunCtl("127.0.0.1:1", {"completion", "tcsh"}).code, 2);
  EXPECT_EQ(RunCtl("127.0.0.1:1", {"completion"}).code, 2);
}

}  // namespace
}  // namespace broker
