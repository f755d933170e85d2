#include "server/base/error.h"

#include <chrono>
#include <map>
#include <set>
#include <string>

#include "gtest/gtest.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

TEST(ErrorTest, EveryReasonHasANameOfItsOwnAndAnErrorCode) {
  std::set<std::string> names;
  for (int i = 1; i < kReasonCount; ++i) {
    const Reason reason = static_cast<Reason>(i);
    const std::string name(ReasonName(reason));
    EXPECT_FALSE(name.empty());
    EXPECT_EQ(name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ_"), std::string::npos) << name;
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_NE(ReasonCode(reason), absl::StatusCode::kOk);
  }
}

TEST(ErrorTest, ReasonsHaveTheCodesThatClientsRelyOn) {
  EXPECT_EQ(ReasonCode(Reason::kCapacityExhausted), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonCode(Reason::kOwnerCapacityExhausted), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonCode(Reason::kQueueFull), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonCode(Reason::kNamespaceLimit), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonCode(Reason::kWaitTimeout), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ReasonCode(Reason::kInitFailed), absl::StatusCode::kAborted);
  EXPECT_EQ(ReasonCode(Reason::kPinConflict), absl::StatusCode::kAborted);
  EXPECT_EQ(ReasonCode(Reason::kInitInProgress), absl::StatusCode::kAborted);
  EXPECT_EQ(ReasonCode(Reason::kSessionEnded), absl::StatusCode::kAborted);
  EXPECT_EQ(ReasonCode(Reason::kSuperseded), absl::StatusCode::kAborted);
  EXPECT_EQ(ReasonCode(Reason::kShuttingDown), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonCode(Reason::kSessionNotFound), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonCode(Reason::kNamespaceNotFound), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonCode(Reason::kLeaseLost), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonCode(Reason::kNotInitializer), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonCode(Reason::kGenerationMismatch), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonCode(Reason::kNamespaceNotEmpty), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonCode(Reason::kInvalidArgument), absl::StatusCode::kInvalidArgument);
}

TEST(ErrorTest, LimitErrorNamesTheLimitAndItsSize) {
  const absl::Status status = LimitError(Reason::kNamespaceLimit, "max_namespaces", 5, "full");

  EXPECT_EQ(status.message(), "full");
  const ErrorInfo info = GetErrorInfo(status);
  EXPECT_EQ(info.reason, Reason::kNamespaceLimit);
  EXPECT_EQ(info.quota_subject, "max_namespaces");
  EXPECT_EQ(info.metadata, (std::map<std::string, std::string>{{"limit", "5"}}));
}

TEST(ErrorTest, KeyErrorNamesTheKeyAndItsNamespace) {
  const absl::Status status = KeyError(Reason::kSessionNotFound, "ns", "k", "there is none");

  EXPECT_EQ(status.message(), "session 'k': there is none");
  const ErrorInfo info = GetErrorInfo(status);
  EXPECT_EQ(info.reason, Reason::kSessionNotFound);
  EXPECT_EQ(info.metadata, (std::map<std::string, std::string>{{"key", "k"}, {"namespace", "ns"}}));
}

TEST(ErrorTest, DetailsTravelWithTheStatus) {
  ErrorInfo info;
  info.reason = Reason::kCapacityExhausted;
  info.metadata = {{"limit", "5"}, {"namespace", "default"}};
  info.retry_after = 1500ms;
  info.field = "config.max_sessions";
  info.quota_subject = "namespace:default/max_sessions";

  const absl::Status status = MakeError(info, "full");

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "full");
  const ErrorInfo read = GetErrorInfo(status);
  EXPECT_EQ(read.reason, info.reason);
  EXPECT_EQ(read.metadata, info.metadata);
  EXPECT_EQ(read.retry_after, info.retry_after);
  EXPECT_EQ(read.field, info.field);
  EXPECT_EQ(read.quota_subject, info.quota_subject);
}

TEST(ErrorTest, DetailsMayHoldAnyBytes) {
  ErrorInfo info;
  info.reason = Reason::kInitFailed;
  info.metadata["message"] = std::string("3:abc\n:\0 12:", 12) + "\xc3\xa9 \"";
  info.metadata["empty"] = "";
  info.metadata[""] = "of nothing";

  EXPECT_EQ(GetErrorInfo(MakeError(info, "")).metadata, info.metadata);
}

TEST(ErrorTest, AbsentAdviceIsNotAdviceToRetryAtOnce) {
  ErrorInfo info;
  info.reason = Reason::kInitFailed;
  EXPECT_EQ(GetErrorInfo(MakeError(info, "")).retry_after, std::nullopt);

  info.retry_after = 0s;
  EXPECT_EQ(GetErrorInfo(MakeError(info, "")).retry_after, 0s);
}

TEST(ErrorTest, WrongFieldIsNamedInDetailsAndMessage) {
  const absl::Status status = InvalidField("config.idle_ttl", "must not be negative");

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "config.idle_ttl: must not be negative");
  EXPECT_EQ(GetErrorInfo(status).field, "config.idle_ttl");
  EXPECT_EQ(GetErrorInfo(status).reason, Reason::kInvalidArgument);
}

TEST(ErrorTest, StatusOfSomebodyElseHasNoReason) {
  EXPECT_EQ(GetErrorInfo(absl::InternalError("x")).reason, Reason::kNone);
  EXPECT_EQ(GetErrorInfo(absl::OkStatus()).reason, Reason::kNone);
}

}  // namespace
}  // namespace broker
