#include "server/base/log.h"

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/json_string.h"
#include "server/base/log_limiter.h"

namespace broker {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::MatchesRegex;
using ::testing::Not;

constexpr MonotonicTime kStart{std::chrono::hours(1000)};

// All tests run in a time zone that is not UTC. Set before the first line, as spdlog works out the
// time of day once a second only.
class ElsewhereEnvironment final : public testing::Environment {
 public:
  void SetUp() override {
    setenv("TZ", "ELSEWHERE-05:30", 1);
    tzset();
  }
};
[[maybe_unused]] testing::Environment* const elsewhere =
    testing::AddGlobalTestEnvironment(new ElsewhereEnvironment);

// The lines that go to stderr from the construction of this until Take().
class CapturedLines {
 public:
  CapturedLines() { testing::internal::CaptureStderr(); }
  std::vector<std::string> Take() {
    return absl::StrSplit(testing::internal::GetCapturedStderr(), '\n', absl::SkipEmpty());
  }
};

TEST(LogTest, LineHasUtcTimeLevelEventAndFields) {
  CapturedLines lines;

  Log(LogLevel::kWarning, "lease lost", {{"namespace", "default"}, {"pins", 3}});

  EXPECT_THAT(lines.Take(),
              ElementsAre(MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
                                       "\\.[0-9]{3}Z warning \"lease lost\" "
                                       "namespace=default pins=3")));
}

TEST(LogTest, TimeIsUtcWhereverTheServerRuns) {
  const auto utc_now = [] {
    const time_t now = time(nullptr);
    char text[32];
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime(&now));
    return std::string(text);
  };
  CapturedLines lines;
  const std::string before = utc_now();

  Log(LogLevel::kInfo, "event");

  const std::string after = utc_now();
  const std::vector<std::string> taken = lines.Take();
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_THAT(taken[0].substr(0, before.size()), AllOf(Ge(before), Le(after)));
}

TEST(LogTest, PlainWordsAreNotQuotedAndOthersAre) {
  EXPECT_EQ(FormatLogLine("serving", {{"address", "[::1]:7400"},
                                      {"metrics", "127.0.0.1:7401"},
                                      {"holder", "worker 7"},
                                      {"owner", ""},
                                      {"trick", "a=b"}}),
            "serving address=\"[::1]:7400\" metrics=127.0.0.1:7401 holder=\"worker 7\" owner=\"\" "
            "trick=\"a=b\"");
}

TEST(LogTest, ValueCannotEndItsQuotesOrItsLine) {
  const std::string line =
      FormatLogLine("event", {{"key", "x\" pins=0\r\n2024-05-01T12:00:00.000Z error forged \\"}});

  EXPECT_EQ(line, "event key=\"x\\\" pins=0\\r\\n2024-05-01T12:00:00.000Z error forged \\\\\"");
}

TEST(LogTest, EveryByteOfAValueComesOutAsPrintableAscii) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string value(1, static_cast<char>(byte));
    for (const char c : FormatLogLine("event", {{"key", value}})) {
      EXPECT_TRUE(c >= ' ' && c <= '~') << "byte " << byte;
    }
  }
}

TEST(LogTest, PercentAndBracesInAValueAreNotAFormat) {
  CapturedLines lines;

  Log(LogLevel::kError, "event", {{"key", "{} %s %v {0}"}});

  EXPECT_THAT(lines.Take(), ElementsAre(HasSubstr("key=\"{} %s %v {0}\"")));
}

TEST(LogTest, JsonLineIsOneObjectWithTimeLevelMessageAndFields) {
  CapturedLines lines;

  InitLogging(LogLevel::kInfo, LogFormat::kJson);
  Log(LogLevel::kWarning, "lease lost",
      {{"namespace", "default"}, {"pins", 3}, {"seconds", 0.5}, {"odd", 1.0 / 0.0}});
  InitLogging(LogLevel::kInfo);

  EXPECT_THAT(
      lines.Take(),
      ElementsAre(MatchesRegex(
          "\\{\"time\":\"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z\","
          "\"level\":\"warning\",\"msg\":\"lease lost\",\"namespace\":\"default\","
          "\"pins\":3,\"seconds\":0.5,\"odd\":\"inf\"\\}")));
}

TEST(LogTest, JsonValueCannotEndItsStringOrItsLine) {
  EXPECT_EQ(FormatLogMembers("e", {{"key", "x\",\"level\":\"error\"}\r\n{\\"}}),
            "\"msg\":\"e\",\"key\":\"x\\\",\\\"level\\\":\\\"error\\\"}\\u000d\\u000a{\\\\\"");
}

TEST(LogTest, JsonStringsAreAsciiAndSayWhatTheySaid) {
  EXPECT_EQ(JsonString("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"),
            "\"gr\\u00fc\\u00df \\u20ac \\ud83d\\ude00\"");
  EXPECT_EQ(JsonString(absl::string_view("\x1b[2J\0\x7f", 6)), "\"\\u001b[2J\\u0000\\u007f\"");
  // Not UTF-8: alone, cut short, overlong, a surrogate, beyond the last character.
  for (const char* bad : {"\x80", "\xe2\x82", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80"}) {
    EXPECT_THAT(JsonString(bad), MatchesRegex("\"(\\\\ufffd)+\"")) << JsonString(bad);
  }
}

TEST(LogTest, LinesBelowTheLevelAreDropped) {
  CapturedLines lines;

  InitLogging(LogLevel::kWarning);
  Log(LogLevel::kInfo, "dropped");
  Log(LogLevel::kWarning, "kept");
  InitLogging(LogLevel::kDebug);
  Log(LogLevel::kDebug, "kept too");
  InitLogging(LogLevel::kInfo);

  EXPECT_THAT(lines.Take(), ElementsAre(HasSubstr("kept"), HasSubstr("kept too")));
}

TEST(LogTest, LinesOfManyThreadsDoNotMix) {
  CapturedLines lines;
  const std::string value(100, 'x');
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) Log(LogLevel::kInfo, "event", {{"key", value}});
    });
  }
  for (std::thread& thread : threads) thread.join();

  const std::vector<std::string> taken = lines.Take();
  EXPECT_EQ(taken.size(), 400u);
  for (const std::string& line : taken)
    EXPECT_THAT(line, MatchesRegex(".{24} info event key=x{100}"));
}

TEST(LogLimiterTest, SoManyLinesAPeriodGoOutAndTheNextPeriodSaysHowManyDidNot) {
  LogLimiter limiter(2, 1s);
  {
    CapturedLines lines;
    for (int i = 0; i < 5; ++i) limiter.Log(kStart, LogLevel::kWarning, "bad id", {{"n", i}});
    limiter.Log(kStart + 1s - 1ns, LogLevel::kWarning, "bad id", {{"n", 5}});
    EXPECT_THAT(lines.Take(), ElementsAre(HasSubstr("n=0"), HasSubstr("n=1")));
  }
  {
    CapturedLines lines;
    limiter.Log(kStart + 1s, LogLevel::kWarning, "bad id", {{"n", 6}});
    EXPECT_THAT(lines.Take(),
                ElementsAre(HasSubstr("\"lines held back\" event=\"bad id\" count=4"),
                            AllOf(HasSubstr("\"bad id\" n=6"), Not(HasSubstr("held back")))));
  }
}

TEST(LogLimiterTest, WhatWasHeldBackIsToldOnce) {
  LogLimiter limiter(1, 1s);
  CapturedLines lines;
  limiter.Log(kStart, LogLevel::kInfo, "a");
  limiter.Log(kStart, LogLevel::kInfo, "b");
  limiter.Log(kStart + 1s, LogLevel::kInfo, "c");
  limiter.Log(kStart + 2s, LogLevel::kInfo, "d");

  EXPECT_THAT(lines.Take(), ElementsAre(HasSubstr("info a"), HasSubstr("event=c count=1"),
                                        HasSubstr("info c"), HasSubstr("info d")));
}

TEST(LogLimiterTest, ALimitOfZeroWritesNothing) {
  LogLimiter limiter(0, 1s);
  CapturedLines lines;

  limiter.Log(kStart, LogLevel::kInfo, "a");
  limiter.Log(kStart + 5s, LogLevel::kInfo, "a");

  EXPECT_THAT(lines.Take(), IsEmpty());
}

}  // namespace
}  // namespace broker
