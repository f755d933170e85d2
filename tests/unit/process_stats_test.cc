#include "server/metrics/process_stats.h"

#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <thread>

#include "gtest/gtest.h"

namespace broker {
namespace {

// A directory that looks like /proc, with one process in it.
class FakeProc {
 public:
  FakeProc() {
    std::string pattern = (std::filesystem::temp_directory_path() / "fake-proc-XXXXXX").string();
    path = mkdtemp(pattern.data());
    std::filesystem::create_directories(path + "/self/fd");
    for (int fd = 0; fd < 5; ++fd) Write("/self/fd/" + std::to_string(fd), "");
    Write("/stat", "cpu  1 2 3\nbtime 1700000000\nprocesses 4\n");
    WriteProcessStat("session-broker");
  }
  ~FakeProc() { std::filesystem::remove_all(path); }

  void Write(const std::string& name, const std::string& content) {
    std::ofstream(path + name) << content;
  }
  // The numbers are their own places in the line, but for those that matter.
  void WriteProcessStat(const std::string& program) {
    Write(
        "/self/stat",
        "1 (" + program + ") S 4 5 6 7 8 9 10 11 12 13 250 150 16 17 18 19 9 21 1000 23 300 25\n");
  }

  std::string path;
};

TEST(ProcessStatsTest, ReadsEachNumberFromItsPlace) {
  FakeProc proc;

  const std::optional<ProcessStats> stats = ReadProcessStats(proc.path);

  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  ASSERT_TRUE(stats.has_value());
  EXPECT_EQ(stats->resident_bytes, 300u * sysconf(_SC_PAGESIZE));
  EXPECT_EQ(stats->open_fds, 5u);
  EXPECT_EQ(stats->threads, 9u);
  EXPECT_DOUBLE_EQ(stats->cpu_seconds, 400 / ticks);
  EXPECT_DOUBLE_EQ(stats->start_time_seconds, 1700000000 + 1000 / ticks);
}

TEST(ProcessStatsTest, ProgramNameMayHoldSpacesAndParentheses) {
  FakeProc proc;
  proc.WriteProcessStat("a) S 1 (b");

  const std::optional<ProcessStats> stats = ReadProcessStats(proc.path);

  ASSERT_TRUE(stats.has_value());
  EXPECT_EQ(stats->threads, 9u);
}

TEST(ProcessStatsTest, NothingIsMadeUpWhereTheSystemDoesNotTell) {
  EXPECT_EQ(ReadProcessStats("/nowhere"), std::nullopt);
  {
    FakeProc proc;
    proc.Write("/stat", "cpu 1 2 3\n");
    EXPECT_EQ(ReadProcessStats(proc.path), std::nullopt);
  }
  {
    FakeProc proc;
    proc.Write("/self/stat", "1 (session-broker) S 4 5 6");
    EXPECT_EQ(ReadProcessStats(proc.path), std::nullopt);
  }
  {
    FakeProc proc;
    std::filesystem::remove_all(proc.path + "/self/fd");
    EXPECT_EQ(ReadProcessStats(proc.path), std::nullopt);
  }
}

TEST(ProcessStatsTest, ThisProcessIsAsItShouldBe) {
  const std::optional<ProcessStats> before = ReadProcessStats();
  ASSERT_TRUE(before.has_value());
  const int fd = dup(0);
  ASSERT_GE(fd, 0);
  std::promise<void> done;
  std::thread thread([&] { done.get_future().wait(); });

  const std::optional<ProcessStats> after = ReadProcessStats();
  done.set_value();
  thread.join();
  close(fd);

  ASSERT_TRUE(after.has_value());
  EXPECT_EQ(after->open_fds, before->open_fds + 1);
  EXPECT_EQ(after->threads, before->threads + 1);
  EXPECT_GT(after->resident_bytes, 1u << 20);
  EXPECT_GE(after->max_fds, after->open_fds);
  const double now = static_cast<double>(time(nullptr));
  EXPECT_GT(after->start_time_seconds, now - 3600);
  EXPECT_LE(after->start_time_seconds, now + 2);
}

}  // namespace
}  // namespace broker
