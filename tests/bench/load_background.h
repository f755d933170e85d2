#pragma once

#include <grpcpp/channel.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/load_options.h"

namespace broker {

// Renews leases as their holders would, in calls of up to 1000, evenly spread over the time in
// which each of them is to be renewed once. Counts those that were not held any more, or could not
// be renewed at all.
class RenewingHolder {
 public:
  RenewingHolder(const std::shared_ptr<grpc::Channel>& channel, std::vector<std::string> leases,
                 Nanoseconds every);
  ~RenewingHolder() { Stop(); }

  void Stop();
  uint64_t renewed() const { return renewed_; }
  uint64_t lost() const { return lost_; }

 private:
  void Run(std::shared_ptr<grpc::Channel> channel, Nanoseconds every);

  const std::vector<std::string> leases_;
  std::atomic<uint64_t> renewed_ = 0;
  std::atomic<uint64_t> lost_ = 0;
  std::mutex mu_;
  std::condition_variable stopped_;
  bool stop_ = false;  // Guarded by mu_.
  std::thread thread_;
};

// Subscribes to the whole namespace, so many times, on few connections, and throws away what comes.
class Listeners {
 public:
  // Returns when all have been told that they are up to date.
  Listeners(const LoadOptions& options, int count);
  ~Listeners();

  uint64_t messages() const { return messages_; }
  // Streams that ended by themselves, or never began.
  uint64_t ended() const { return ended_; }

 private:
  class Stream;

  std::atomic<uint64_t> synced_ = 0;
  std::atomic<uint64_t> messages_ = 0;
  std::atomic<uint64_t> ended_ = 0;
  std::vector<std::unique_ptr<Stream>> streams_;
};

}  // namespace broker
