// A real process that is killed, and a real disk that is full.

#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>

#include "gtest/gtest.h"
#include "server/base/mutex.h"
#include "server/store/data_directory.h"
#include "tests/support/await.h"
#include "tests/support/journal_calls.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/store_workload.h"

namespace broker {
namespace {

// Writes one group after the other, from `next` on and eight at a time, and tells `out` of each
// that was acknowledged. Does not end.
void WriteForEver(const std::string& path, uint64_t next, int out) {
  auto journal = OpenSqliteJournal(SmallJournal(path, ""));
  if (!journal.ok() || !LoadAll(**journal).ok()) _exit(1);
  Mutex mu;
  CondVar changed;
  int under_way = 0;
  while (true) {
    {
      MutexLock lock(mu);
      while (under_way == 8) changed.Wait(mu);
      ++under_way;
    }
    (*journal)->Write(StoreWorkload::Group(next), [&, next](const absl::Status& status) {
      if (!status.ok() || write(out, &next, sizeof(next)) != sizeof(next)) _exit(1);
      MutexLock lock(mu);
      --under_way;
      changed.NotifyAll();
    });
    ++next;
  }
}

TEST(StoreKillTest, AKilledProcessLosesNothingItWasToldOf) {
  const TempDir dir;
  const std::string path = dir / "sessions.db";
  std::mt19937_64 random(42);
  uint64_t held = 0;
  for (int life = 0; life < 12; ++life) {
    int told[2];
    ASSERT_EQ(pipe(told), 0);
    const pid_t child = fork();
    if (child == 0) {
      close(told[0]);
      WriteForEver(path, held + 1, told[1]);
    }
    close(told[1]);
    const uint64_t enough = held + 1 + random() % 150;
    uint64_t acknowledged = 0;
    while (acknowledged < enough) {
      ASSERT_EQ(read(told[0], &acknowledged, sizeof(acknowledged)),
                static_cast<ssize_t>(sizeof(acknowledged)))
          << "the child ended by itself";
    }
    ASSERT_EQ(kill(child, SIGKILL), 0);
    // What it was told until it was dead.
    while (read(told[0], &acknowledged, sizeof(acknowledged)) == sizeof(acknowledged)) {
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    close(told[0]);

    auto journal = OpenSqliteJournal(SmallJournal(path, ""));
    ASSERT_TRUE(journal.ok()) << journal.status();
    ASSERT_EQ(StoreWorkload::Problem(**journal, acknowledged, acknowledged + 8, &held), "");
  }
}

// A file system of 2 MiB.
class SmallDisk {
 public:
  explicit SmallDisk(std::string path) : path_(std::move(path)) {
    std::filesystem::create_directory(path_);
    mounted_ = mount("tmpfs", path_.c_str(), "tmpfs", 0, "size=2m,mode=0700") == 0;
  }
  ~SmallDisk() {
    if (mounted_) umount(path_.c_str());
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const { return mounted_; }

 private:
  const std::string path_;
  bool mounted_ = false;
};

TEST(StoreFullDiskTest, AFullDiskIsToldAndHealsWhenThereIsRoom) {
  const TempDir dir;
  const SmallDisk disk(dir / "disk");
  if (!disk.mounted()) GTEST_SKIP() << "cannot mount a small disk: " << std::strerror(errno);
  auto directory = DataDirectory::Open(dir / "disk");
  ASSERT_TRUE(directory.ok()) << directory.status();
  auto opened = OpenSqliteJournal(SmallJournal((*directory)->database_path(), ""));
  ASSERT_TRUE(opened.ok()) << opened.status();
  Journal& journal = **opened;
  ASSERT_TRUE(LoadAll(journal).ok());
  for (uint64_t i = 1; i <= 20; ++i) {
    ASSERT_TRUE(WriteNow(journal, StoreWorkload::Group(i)).ok());
  }

  WriteFile(dir / "disk/ballast", std::string(2 << 20, 'x'));  // As much of it as there is room.
  // The log is there already and is written again and again; this needs more than it.
  EXPECT_FALSE(
      WriteNow(journal, {In(1, PutCheckpoint{"a1", MakeCheckpoint(std::string(1 << 20, 'c'))})})
          .ok());

  EXPECT_GE(journal.Stats().failures[static_cast<size_t>(StoreFailure::kFull)], 1u);
  EXPECT_EQ(StoreWorkload::ProblemNow(journal, 20), "");
  std::filesystem::remove(dir / "disk/ballast");
  ASSERT_TRUE(Await([&] { return journal.healthy(); }));
  for (uint64_t i = 21; i <= 40; ++i) {
    ASSERT_TRUE(WriteNow(journal, StoreWorkload::Group(i)).ok());
  }
  const std::string path = (*directory)->database_path();
  opened->reset();
  uint64_t held = 0;
  auto journal_after = OpenSqliteJournal(SmallJournal(path, ""));
  ASSERT_TRUE(journal_after.ok()) << journal_after.status();
  EXPECT_EQ(StoreWorkload::Problem(**journal_after, 40, 40, &held), "");
}

}  // namespace
}  // namespace broker
