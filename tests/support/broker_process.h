#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace broker {

// A child process of the test: killed at the end, and with the test if that dies.
class ChildProcess {
 public:
  struct Options {
    uint64_t max_files = 0;                // RLIMIT_NOFILE, soft and hard; zero: the test's own.
    std::vector<std::string> environment;  // "NAME=value", added to the test's own.
  };

  // The program that was built beside this test.
  static std::string Sibling(const std::string& name);
  // This test itself.
  static std::string Self();

  ChildProcess(const std::string& program, const std::vector<std::string>& args,
               const Options& options);
  ChildProcess(const std::string& program, const std::vector<std::string>& args)
      : ChildProcess(program, args, Options()) {}
  ~ChildProcess();

  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int signal);

  // The next line of its stdout, without the newline; nullopt at its end or after `limit`.
  std::optional<std::string> ReadLine(std::chrono::seconds limit = std::chrono::seconds(30));
  // What it has written to stderr so far.
  std::string Errors() const;
  // Its exit code, or 128 + the signal that killed it; nullopt if it is still there after `limit`.
  std::optional<int> AwaitExit(std::chrono::seconds limit = std::chrono::seconds(30));

 private:
  pid_t pid_ = -1;
  int stdout_fd_ = -1;
  int stderr_fd_ = -1;  // A nameless file.
  std::string read_;    // Of stdout, not yet returned.
  std::optional<int> exit_code_;
};

// The real session-broker, serving on ports of its own.
class BrokerProcess {
 public:
  // With `args` after the two --listen flags. Both addresses are empty if it did not come to serve.
  explicit BrokerProcess(std::vector<std::string> args = {},
                         const ChildProcess::Options& options = ChildProcess::Options());

  ChildProcess& process() { return process_; }
  const std::string& address() const { return address_; }
  const std::string& metrics_address() const { return metrics_address_; }

 private:
  ChildProcess process_;
  std::string address_;
  std::string metrics_address_;
};

// How session-broker ended that was run with `args`.
struct RunResult {
  std::optional<int> exit_code;
  std::string out;
  std::string errors;
};
RunResult RunBroker(const std::vector<std::string>& args);

}  // namespace broker
