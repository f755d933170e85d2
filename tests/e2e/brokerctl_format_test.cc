// What brokerctl reads and writes: durations, tables, errors.

#include "client/cli/durations.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/table.h"
#include "client/cpp/error_details.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_broker_service.h"

namespace sessionbroker::cli {
namespace {

using ::broker::MakeBrokerError;
using ::std::chrono::hours;
using ::std::chrono::milliseconds;
using ::std::chrono::minutes;
using ::std::chrono::seconds;
using ::testing::HasSubstr;

TEST(DurationTest, UnitsSumsAndFractionsAreRead) {
  const std::pair<const char*, Duration> cases[] = {
      {"0", Duration::zero()},       {"0s", Duration::zero()},
      {"250ms", milliseconds(250)},  {"30s", seconds(30)},
      {"15m", minutes(15)},          {"2h", hours(2)},
      {"7d", hours(7 * 24)},         {"1h30m", minutes(90)},
      {"1.5s", milliseconds(1500)},  {"10us", std::chrono::microseconds(10)},
      {"3ns", Duration(3)},          {"1m1s1ms", milliseconds(61'001)},
      {"36500d", hours(36500 * 24)},
  };
  for (const auto& [text, expected] : cases) {
    const absl::StatusOr<Duration> parsed = ParseDuration(text);
    ASSERT_TRUE(parsed.ok()) << text << ": " << parsed.status();
    EXPECT_EQ(*parsed, expected) << text;
  }
}

TEST(DurationTest, AnythingElseIsRefusedAndQuoted) {
  for (const char* text :
       {"", "5", "s", "-5s", "+5s", "5 s", "5x", "5s ", "1..5s", ".", ".s", "1e3s", "inf", "nan",
        "0x10s", "40000d", "99999999999999999999h", "never"}) {
    const absl::StatusOr<Duration> parsed = ParseDuration(text);
    EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("\"" + std::string(text) + "\""));
  }
}

TEST(DurationTest, WhatIsWrittenIsReadBack) {
  EXPECT_EQ(FormatDuration(Duration::zero()), "0s");
  EXPECT_EQ(FormatDuration(milliseconds(250)), "250ms");
  EXPECT_EQ(FormatDuration(minutes(90)), "1h30m");
  EXPECT_EQ(FormatDuration(hours(7 * 24)), "7d");
  EXPECT_EQ(FormatDuration(Duration(1)), "1ns");
  EXPECT_EQ(FormatDuration(-seconds(3)), "-3s");
  for (const Duration duration : {Duration(1), Duration(999), Duration(1'000'001),
                                  Duration(59'999'999'999), Duration(86'400'000'000'001)}) {
    EXPECT_EQ(*ParseDuration(FormatDuration(duration)), duration);
  }
}

TEST(TableTest, ColumnsAreAsWideAsTheirWidestCell) {
  Table table({"KEY", "PINS", "OWNER"});
  table.AddRow({"a", "1", "alice"});
  table.AddRow({"browser-7", "12", ""});

  EXPECT_EQ(table.ToString(),
            "KEY        PINS  OWNER\n"
            "a          1     alice\n"
            "browser-7  12    -\n");
}

TEST(TableTest, WidthsCountCharacters) {
  Table table({});
  table.AddRow({"\u00e4\u00f6\u00fc", "1"});
  table.AddRow({"abcd", "2"});

  EXPECT_EQ(table.ToString(), "\u00e4\u00f6\u00fc   1\nabcd  2\n");
}

TEST(TableTest, WhatCouldSteerTheTerminalIsEscaped) {
  EXPECT_EQ(Printable("a\nb\x1b[31m\x7f"), "a\\nb\\x1b[31m\\x7f");
  EXPECT_EQ(Printable("\u009b31m"), "\\u009b31m");  // CSI in one character.
  EXPECT_EQ(Printable("\u00a7 \u00e4 \u4e2d"), "\u00a7 \u00e4 \u4e2d");
}

TEST(ErrorReportTest, OneLineSaysWhatAndWhyAndWhatToDo) {
  const Context context;
  const absl::Status error =
      FromGrpcStatus(MakeBrokerError({.code = grpc::StatusCode::RESOURCE_EXHAUSTED,
                                      .message = "all 8 sessions\nare pinned",
                                      .reason = "CAPACITY_EXHAUSTED",
                                      .retry_after_seconds = 90}));

  const std::string line = DescribeError(error, context);

  EXPECT_THAT(line, testing::StartsWith("CAPACITY_EXHAUSTED: all 8 sessions\\nare pinned ("));
  EXPECT_THAT(line, HasSubstr("--wait"));
  EXPECT_THAT(line, testing::EndsWith("; not before 1m30s from now)"));
}

// Where there is something to do about it.
TEST(ErrorReportTest, WhatTheStoreAndStreamsRefuseComesWithAdvice) {
  const std::pair<const char*, const char*> cases[] = {
      {"STORE_UNAVAILABLE", "cannot use its disk"},
      {"STORE_DISABLED", "--data-dir"},
      {"SESSION_NOT_ACTIVE", "brokerctl get KEY"},
      {"SESSION_PINNED", "brokerctl get KEY"},
      {"CHECKPOINT_REQUIRED", "brokerctl checkpoint LEASE FILE"},
      {"SUBSCRIBER_LIMIT", "maxSubscribers"},
      {"SUBSCRIBER_TOO_SLOW", "--after"},
      {"REVISION_COMPACTED", "--initial"},
  };
  for (const auto& [reason, advice] : cases) {
    const absl::Status error =
        FromGrpcStatus(MakeBrokerError({.code = grpc::StatusCode::UNAVAILABLE, .reason = reason}));
    const std::string line = DescribeError(error, Context());
    EXPECT_THAT(line.substr(line.find('(')), HasSubstr(advice)) << reason;
  }
}

TEST(ErrorReportTest, ExitCodesTellTheKindsOfErrorsApart) {
  const auto code_of = [](grpc::StatusCode code, const std::string& reason) {
    return ToExitCode(FromGrpcStatus(MakeBrokerError({.code = code, .reason = reason})));
  };
  EXPECT_EQ(ToExitCode(absl::OkStatus()), 0);
  EXPECT_EQ(code_of(grpc::StatusCode::RESOURCE_EXHAUSTED, "CAPACITY_EXHAUSTED"), 1);
  EXPECT_EQ(code_of(grpc::StatusCode::ABORTED, "INIT_FAILED"), 1);
  EXPECT_EQ(code_of(grpc::StatusCode::DEADLINE_EXCEEDED, "WAIT_TIMEOUT"), 1);
  EXPECT_EQ(code_of(grpc::StatusCode::FAILED_PRECONDITION, "NOT_INITIALIZER"), 1);
  EXPECT_EQ(code_of(grpc::StatusCode::INVALID_ARGUMENT, "INVALID_ARGUMENT"), 2);
  EXPECT_EQ(code_of(grpc::StatusCode::UNAVAILABLE, "SHUTTING_DOWN"), 3);
  EXPECT_EQ(code_of(grpc::StatusCode::UNAVAILABLE, "STORE_UNAVAILABLE"), 3);
  EXPECT_EQ(code_of(grpc::StatusCode::FAILED_PRECONDITION, "STORE_DISABLED"), 1);
  EXPECT_EQ(code_of(grpc::StatusCode::UNAVAILABLE, ""), 3);
  EXPECT_EQ(code_of(grpc::StatusCode::DEADLINE_EXCEEDED, ""), 3);
  EXPECT_EQ(code_of(grpc::StatusCode::NOT_FOUND, "SESSION_NOT_FOUND"), 4);
  EXPECT_EQ(code_of(grpc::StatusCode::FAILED_PRECONDITION, "LEASE_LOST"), 5);
}

}  // namespace
}  // namespace sessionbroker::cli
