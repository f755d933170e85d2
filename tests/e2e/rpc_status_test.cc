// How our errors look to a client: the google.rpc details, and that they stay small.
#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "server/base/error.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/utf8.h"
#include "tests/support/rpc_errors.h"

namespace broker {
namespace {

ErrorInfo Full() {
  ErrorInfo info;
  info.reason = Reason::kCapacityExhausted;
  info.metadata = {{"limit", "7"}, {"pinned", "6"}};
  info.retry_after = std::chrono::milliseconds(1500);
  info.quota_subject = "namespace:default/max_sessions";
  return info;
}

TEST(GrpcStatusTest, OkIsOk) { EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok()); }

// C08
TEST(GrpcStatusTest, ErrorCarriesReasonRetryAndQuota) {
  const grpc::Status status = ToGrpcStatus(MakeError(Full(), "namespace 'default' is full"));

  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "namespace 'default' is full");
  const RpcError error = DetailsOf(status);
  EXPECT_EQ(error.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(error.message, status.error_message());
  EXPECT_EQ(error.reason, "CAPACITY_EXHAUSTED");
  EXPECT_EQ(error.domain, "sessionbroker");
  EXPECT_EQ(error.metadata, (std::map<std::string, std::string>{{"limit", "7"}, {"pinned", "6"}}));
  EXPECT_TRUE(error.has_retry);
  EXPECT_DOUBLE_EQ(error.retry_seconds, 1.5);
  EXPECT_EQ(error.quota_subject, "namespace:default/max_sessions");
  EXPECT_EQ(error.field, "");
}

TEST(GrpcStatusTest, BadFieldIsNamedOnce) {
  const RpcError error = DetailsOf(ToGrpcStatus(InvalidField("key", "must have 1 to 256 bytes")));

  EXPECT_EQ(error.field, "key");
  EXPECT_EQ(error.field_description, "must have 1 to 256 bytes");
  EXPECT_EQ(error.message, "key: must have 1 to 256 bytes");
  EXPECT_FALSE(error.has_retry);
}

TEST(GrpcStatusTest, ErrorOfNobodysMakingHasNoReason) {
  const grpc::Status status = ToGrpcStatus(absl::InternalError("oops"));

  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(DetailsOf(status).reason, "");
  EXPECT_EQ(DetailsOf(status).message, "oops");
}

TEST(GrpcStatusTest, InitializersMessageOfFullLengthIsKept) {
  const std::string message(1024, 'm');
  const grpc::Status status = ToGrpcStatus(MakeError(Reason::kInitFailed, message));

  EXPECT_EQ(status.error_message(), message);
  EXPECT_LT(status.error_details().size(), kMaxErrorBytes);
}

TEST(GrpcStatusTest, OversizedErrorIsCutBetweenCharacters) {
  std::string euros;
  for (int i = 0; i < 1000; ++i) euros += "\xe2\x82\xac";
  ErrorInfo info = Full();
  info.metadata["key"] = euros;
  info.metadata["message"] = euros;
  info.quota_subject = "namespace:default/max_sessions";

  const grpc::Status status = ToGrpcStatus(MakeError(info, euros));

  EXPECT_LT(status.error_details().size(), kMaxErrorBytes);
  const RpcError error = DetailsOf(status);
  EXPECT_EQ(error.message, status.error_message());
  EXPECT_GT(error.message.size(), 500u);
  EXPECT_TRUE(IsValidUtf8(error.message));
  EXPECT_EQ(error.reason, "CAPACITY_EXHAUSTED");
  EXPECT_EQ(error.metadata.at("limit"), "7");
  EXPECT_TRUE(IsValidUtf8(error.metadata.at("key")));
  EXPECT_TRUE(IsValidUtf8(error.metadata.at("message")));
}

TEST(Utf8Test, OnlyWellFormedTextIsValid) {
  for (const char* good : {"", "plain", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                           "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf", "\xee\x80\x80"}) {
    EXPECT_TRUE(IsValidUtf8(good)) << good;
  }
  for (const char* bad :
       {"\x80", "\xc0\xaf", "\xc1\xbf", "\xc3", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xe2\x28\xa1"}) {
    EXPECT_FALSE(IsValidUtf8(bad)) << testing::PrintToString(std::string(bad));
  }
}

TEST(Utf8Test, TrimNeverSplitsACharacter) {
  EXPECT_EQ(TrimUtf8("a\xe2\x82\xac", 4), "a\xe2\x82\xac");
  EXPECT_EQ(TrimUtf8("a\xe2\x82\xac", 3), "a");
  EXPECT_EQ(TrimUtf8("a\xe2\x82\xac", 1), "a");
  EXPECT_EQ(TrimUtf8("\xe2\x82\xac", 2), "");
}

}  // namespace
}  // namespace broker
