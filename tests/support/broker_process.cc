#include "tests/support/broker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/check.h"
#include "tests/support/await.h"

namespace broker {
namespace {

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> WithPorts(std::vector<std::string> args) {
  const std::vector<std::string> ports = {"--listen", "127.0.0.1:0", "--metrics-listen",
                                          "127.0.0.1:0"};
  args.insert(args.begin(), ports.begin(), ports.end());
  return args;
}

}  // namespace

std::string ChildProcess::Self() { return std::filesystem::read_symlink("/proc/self/exe"); }

std::string ChildProcess::Sibling(const std::string& name) {
  return std::filesystem::path(Self()).parent_path() / name;
}

ChildProcess::ChildProcess(const std::string& program, const std::vector<std::string>& args,
                           const Options& options) {
  // All that allocates comes before the fork: other threads of the test may hold the heap's lock.
  std::vector<std::string> words = {program};
  words.insert(words.end(), args.begin(), args.end());
  const std::vector<char*> argv = Pointers(words);
  std::vector<std::string> variables = options.environment;
  for (char** entry = environ; *entry != nullptr; ++entry) variables.emplace_back(*entry);
  const std::vector<char*> envp = Pointers(variables);
  int out[2];
  BROKER_CHECK(pipe2(out, O_CLOEXEC) == 0);
  stderr_fd_ = memfd_create("stderr", MFD_CLOEXEC);
  BROKER_CHECK(stderr_fd_ >= 0);
  const pid_t parent = getpid();
  pid_ = fork();
  BROKER_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(126);
    dup2(out[1], STDOUT_FILENO);
    dup2(stderr_fd_, STDERR_FILENO);
    if (options.max_files > 0) {
      const rlimit limit = {options.max_files, options.max_files};
      setrlimit(RLIMIT_NOFILE, &limit);
    }
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  }
  close(out[1]);
  stdout_fd_ = out[0];
}

ChildProcess::~ChildProcess() {
  Signal(SIGKILL);
  AwaitExit();
  close(stdout_fd_);
  close(stderr_fd_);
}

void ChildProcess::Signal(int signal) {
  if (!exit_code_.has_value())
    kill(pid_, signal);  // Not yet waited for, so the id is still its own.
}

std::optional<std::string> ChildProcess::ReadLine(std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  size_t end;
  while ((end = read_.find('\n')) == std::string::npos) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd ready = {stdout_fd_, POLLIN, 0};
    if (left.count() <= 0 || poll(&ready, 1, static_cast<int>(left.count())) <= 0) {
      return std::nullopt;
    }
    char part[1024];
    const ssize_t size = read(stdout_fd_, part, sizeof(part));
    if (size <= 0) return std::nullopt;
    read_.append(part, static_cast<size_t>(size));
  }
  std::string line = read_.substr(0, end);
  read_.erase(0, end + 1);
  return line;
}

std::string ChildProcess::Errors() const {
  struct stat info {};
  fstat(stderr_fd_, &info);
  std::string text(static_cast<size_t>(info.st_size), '\0');
  const ssize_t size = pread(stderr_fd_, text.data(), text.size(), 0);
  text.resize(size < 0 ? 0 : static_cast<size_t>(size));
  return text;
}

std::optional<int> ChildProcess::AwaitExit(std::chrono::seconds limit) {
  Await(
      [this] {
        if (exit_code_.has_value()) return true;
        int status = 0;
        if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
        exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        return true;
      },
      limit);
  return exit_code_;
}

BrokerProcess::BrokerProcess(std::vector<std::string> args, const ChildProcess::Options& options)
    : process_(ChildProcess::Sibling("session-broker"), WithPorts(std::move(args)), options) {
  const std::string listening = process_.ReadLine().value_or("");
  const std::string metrics = process_.ReadLine().value_or("");
  absl::string_view text = listening;
  if (absl::ConsumePrefix(&text, "listening on ")) address_ = std::string(text);
  text = metrics;
  if (absl::ConsumePrefix(&text, "metrics on ")) metrics_address_ = std::string(text);
}

RunResult RunBroker(const std::vector<std::string>& args) {
  ChildProcess process(ChildProcess::Sibling("session-broker"), args);
  RunResult result;
  while (std::optional<std::string> line = process.ReadLine()) {
    absl::StrAppend(&result.out, *line, "\n");
  }
  result.exit_code = process.AwaitExit();
  result.errors = process.Errors();
  return result;
}

}  // namespace broker
