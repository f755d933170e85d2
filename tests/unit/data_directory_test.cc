#include "server/store/data_directory.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temp_dir.h"

namespace broker {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

int ModeOf(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : -1;
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class DataDirectoryTest : public testing::Test {
 protected:
  std::unique_ptr<DataDirectory> Open() {
    auto directory = DataDirectory::Open(path_);
    EXPECT_TRUE(directory.ok()) << directory.status();
    return directory.ok() ? *std::move(directory) : nullptr;
  }

  TempDir dir_;
  const std::string path_ = dir_ / "data";
};

TEST_F(DataDirectoryTest, IsMadeForItsOwnerOnly) {
  const auto directory = Open();

  EXPECT_EQ(ModeOf(path_), 0700);
  EXPECT_EQ(ModeOf(path_ + "/LOCK"), 0600);
  EXPECT_EQ(directory->database_path(), path_ + "/sessions.db");
}

TEST_F(DataDirectoryTest, ParentsAreNotMade) {
  EXPECT_THAT(Message(DataDirectory::Open(dir_ / "no/data").status()),
              AllOf(HasSubstr("no/data"), HasSubstr("No such file or directory")));
}

TEST_F(DataDirectoryTest, AFileIsRefused) {
  WriteFile(path_, "x");
  EXPECT_THAT(Message(DataDirectory::Open(path_).status()), HasSubstr("is not a directory"));
}

TEST_F(DataDirectoryTest, OneThatOthersMayWriteIsRefusedWithAWayOut) {
  std::filesystem::create_directory(path_);
  ASSERT_EQ(chmod(path_.c_str(), 0770), 0);

  EXPECT_THAT(Message(DataDirectory::Open(path_).status()), HasSubstr("chmod 700 " + path_));

  EXPECT_THAT(FilesIn(path_), IsEmpty());
}

TEST_F(DataDirectoryTest, ASecondOneInTheSameProcessIsRefused) {
  auto first = Open();
  EXPECT_FALSE(DataDirectory::Open(path_).ok());

  first.reset();

  EXPECT_TRUE(DataDirectory::Open(path_).ok());
}

TEST_F(DataDirectoryTest, AnotherProcessIsNamedAndItsEndGivesTheLockBack) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto directory = DataDirectory::Open(path_);
    const char result = directory.ok() ? 'y' : 'n';
    (void)!write(ready[1], &result, 1);
    while (true) pause();
  }
  char result = 0;
  ASSERT_EQ(read(ready[0], &result, 1), 1);
  ASSERT_EQ(result, 'y');

  const absl::Status refused = DataDirectory::Open(path_).status();

  EXPECT_THAT(Message(refused), AllOf(HasSubstr(path_), HasSubstr(absl::StrCat("process ", child)),
                                      HasSubstr("Stop that one first")));
  // No less for tools that only look.
  WriteFile(path_ + "/sessions.db", "");
  EXPECT_THAT(Message(DataDirectory::OpenExisting(path_).status()),
              HasSubstr(absl::StrCat("process ", child)));
  ASSERT_EQ(kill(child, SIGKILL), 0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(DataDirectory::Open(path_).ok());
  close(ready[0]);
  close(ready[1]);
}

TEST_F(DataDirectoryTest, ToolsMakeNothing) {
  EXPECT_FALSE(DataDirectory::OpenExisting(path_).ok());
  EXPECT_EQ(ModeOf(path_), -1);
  std::filesystem::create_directory(path_);
  EXPECT_THAT(Message(DataDirectory::OpenExisting(path_).status()),
              HasSubstr("there is no sessions.db"));
  WriteFile(path_ + "/sessions.db", "");

  const auto directory = DataDirectory::OpenExisting(path_);

  ASSERT_TRUE(directory.ok()) << directory.status();
  EXPECT_EQ((*directory)->CheckLeaseKey().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(FilesIn(path_).size(), 1u);
}

TEST_F(DataDirectoryTest, KeyIsDrawnOnceAndKept) {
  const absl::StatusOr<std::string> key = Open()->LeaseKey();
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(key->size(), DataDirectory::kLeaseKeyBytes);
  EXPECT_EQ(ModeOf(path_ + "/lease.key"), 0600);

  EXPECT_EQ(Open()->LeaseKey().value(), *key);

  std::filesystem::remove(path_ + "/lease.key");
  EXPECT_NE(Open()->LeaseKey().value(), *key);
}

TEST_F(DataDirectoryTest, AKeyHalfWrittenIsDrawnAnew) {
  auto directory = Open();
  WriteFile(path_ + "/lease.key.new", "half");

  EXPECT_TRUE(directory->LeaseKey().ok());

  EXPECT_EQ(FilesIn(path_).count("lease.key.new"), 0u);
}

TEST_F(DataDirectoryTest, AKeyOfTheWrongSizeIsRefusedWithAWayOut) {
  for (const size_t size : {0, 31, 33, 1000}) {
    auto directory = Open();
    const std::string bytes(size, 'k');
    WriteFile(path_ + "/lease.key", bytes);
    ASSERT_EQ(chmod((path_ + "/lease.key").c_str(), 0600), 0);

    EXPECT_THAT(Message(directory->LeaseKey().status()),
                AllOf(HasSubstr("lease.key is damaged"), HasSubstr("Restore it from a backup")));
    EXPECT_FALSE(directory->CheckLeaseKey().ok());
    EXPECT_EQ(ReadFile(path_ + "/lease.key"), bytes);
  }
}

TEST_F(DataDirectoryTest, AKeyThatOthersMayReadIsRefusedWithAWayOut) {
  auto directory = Open();
  ASSERT_TRUE(directory->LeaseKey().ok());
  for (const mode_t mode : {0640, 0604, 0660, 0644}) {
    ASSERT_EQ(chmod((path_ + "/lease.key").c_str(), mode), 0);

    EXPECT_THAT(Message(directory->LeaseKey().status()),
                HasSubstr(absl::StrCat("chmod 600 ", path_, "/lease.key")));
  }
}

}  // namespace
}  // namespace broker
