// The pin as one would write it for Redis: two Lua scripts, called with EVALSHA. What the broker is
// compared to.
//
//     broker_bench_redis PORT [--connections N] [--depth N] [--keys N] [--duration S] [--warmup S]
//     [--prepared]
//
// The server at PORT on loopback is emptied first, unless --prepared. Prints one JSON object. It
// does much less than the broker does: no waiting, no initializer, no limit, no events; leases that
// are due are left in their set.

#include <hiredis/hiredis.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "tests/bench/histogram.h"
#include "tests/bench/key_set.h"

namespace broker {
namespace {

using Steady = std::chrono::steady_clock;

// KEYS: the session, the leases by their expiry, the idle sessions by when they were used last.
// ARGV: the session's name, the lease's (the client makes one up), its TTL in ms.
constexpr char kAcquire[] = R"(
  local endpoint = redis.call('HGET', KEYS[1], 'endpoint')
  if not endpoint then return redis.error_reply('NOTFOUND') end
  if redis.call('HINCRBY', KEYS[1], 'pins', 1) == 1 then redis.call('ZREM', KEYS[3], ARGV[1]) end
  local now = redis.call('TIME')
  redis.call('ZADD', KEYS[2], now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[3], ARGV[2])
  return endpoint)";
// ARGV: the session's name, the lease's.
constexpr char kRelease[] = R"(
  if redis.call('ZREM', KEYS[2], ARGV[2]) == 0 then return 0 end
  if redis.call('HINCRBY', KEYS[1], 'pins', -1) == 0 then
    local now = redis.call('TIME')
    redis.call('ZADD', KEYS[3], now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
  end
  return 1)";
constexpr char kTtl[] = "30000";
constexpr char kEndpoint[] = "unix:/run/bench.sock";

using Reply = std::unique_ptr<redisReply, decltype(&freeReplyObject)>;

class Redis {
 public:
  explicit Redis(int port) : context_(redisConnect("127.0.0.1", port), redisFree) {
    BROKER_CHECK(context_ != nullptr && context_->err == 0);
  }

  // Sent with the next Receive().
  void Send(const std::vector<absl::string_view>& words) {
    const char* text[10];
    size_t sizes[10];
    BROKER_CHECK(words.size() <= 10);
    for (size_t i = 0; i < words.size(); ++i) {
      text[i] = words[i].data();
      sizes[i] = words[i].size();
    }
    redisAppendCommandArgv(context_.get(), static_cast<int>(words.size()), text, sizes);
  }
  Reply Receive() {
    void* reply = nullptr;
    BROKER_CHECK(redisGetReply(context_.get(), &reply) == REDIS_OK);
    Reply owned(static_cast<redisReply*>(reply), freeReplyObject);
    if (owned->type == REDIS_REPLY_ERROR) std::fprintf(stderr, "redis: %s\n", owned->str);
    BROKER_CHECK(owned->type != REDIS_REPLY_ERROR);
    return owned;
  }
  std::string Load(const char* script) {
    Send({"SCRIPT", "LOAD", script});
    return Receive()->str;
  }

 private:
  std::unique_ptr<redisContext, decltype(&redisFree)> context_;
};

struct Options {
  int port = 0;
  int connections = 1;
  int depth = 1;
  size_t keys = 10'000;
  double duration = 2;
  double warmup = 0.5;
  bool prepared = false;
};

struct Progress {
  std::atomic<bool> counting = false;
  std::atomic<bool> stop = false;
};

// One connection: so many Acquires in a write, then as many Releases.
class Worker {
 public:
  Worker(const Options& options, const KeySet& keys, const Progress& progress, int number)
      : options_(options),
        keys_(keys),
        progress_(progress),
        number_(number),
        redis_(options.port),
        acquire_(redis_.Load(kAcquire)),
        release_(redis_.Load(kRelease)),
        random_(number + 1) {}

  void Run() {
    std::vector<std::string> sessions(options_.depth), leases(options_.depth);
    while (!progress_.stop) {
      for (int i = 0; i < options_.depth; ++i) {
        sessions[i] = absl::StrCat("{bench}:", keys_[random_.Below(keys_.size())]);
        leases[i] = absl::StrCat(number_, ":", next_lease_++);
      }
      Batch([&](int i) {
        redis_.Send({"EVALSHA", acquire_, "3", sessions[i], "{bench}leases", "{bench}idle",
                     sessions[i], leases[i], kTtl});
      });
      Batch([&](int i) {
        redis_.Send({"EVALSHA", release_, "3", sessions[i], "{bench}leases", "{bench}idle",
                     sessions[i], leases[i]});
      });
    }
  }
  uint64_t answers() const { return answers_; }
  const LatencyHistogram& nanoseconds() const { return nanoseconds_; }

 private:
  template <typename SendOne>
  void Batch(const SendOne& send) {
    const auto begin = Steady::now();
    for (int i = 0; i < options_.depth; ++i) send(i);
    for (int i = 0; i < options_.depth; ++i) {
      const Reply reply = redis_.Receive();
      BROKER_CHECK(reply->type == REDIS_REPLY_STRING || reply->integer == 1);
    }
    answers_ += options_.depth;
    if (progress_.counting) nanoseconds_.Add((Steady::now() - begin).count(), options_.depth);
  }

  const Options options_;
  const KeySet& keys_;
  const Progress& progress_;
  const int number_;
  Redis redis_;
  const std::string acquire_;
  const std::string release_;
  CheapRandom random_;
  uint64_t next_lease_ = 0;
  uint64_t answers_ = 0;
  LatencyHistogram nanoseconds_;
};

void Prepare(const Options& options, const KeySet& keys) {
  Redis redis(options.port);
  redis.Send({"FLUSHALL"});
  redis.Receive();
  for (size_t i = 0; i < keys.size(); ++i) {
    redis.Send({"HSET", absl::StrCat("{bench}:", keys[i]), "endpoint", kEndpoint, "pins", "0"});
    redis.Receive();
    redis.Send({"ZADD", "{bench}idle", "0", absl::StrCat("{bench}:", keys[i])});
    redis.Receive();
  }
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Measures a pin in Redis.", "broker_bench_redis");
  app.add_option("port", options.port)->required();
  app.add_option("--connections", options.connections, "With a thread each");
  app.add_option("--depth", options.depth, "Calls in a pipeline");
  app.add_option("--keys", options.keys);
  app.add_option("--duration", options.duration, "In seconds");
  app.add_option("--warmup", options.warmup, "In seconds");
  app.add_flag("--prepared", options.prepared, "The sessions are there already");
  CLI11_PARSE(app, argc, argv);

  const KeySet keys(options.keys);
  if (!options.prepared) Prepare(options, keys);
  Progress progress;
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<std::thread> threads;
  for (int i = 0; i < options.connections; ++i) {
    workers.push_back(std::make_unique<Worker>(options, keys, progress, i));
    threads.emplace_back([&worker = *workers.back()] { worker.Run(); });
  }
  std::this_thread::sleep_for(std::chrono::duration<double>(options.warmup));
  progress.counting = true;
  std::this_thread::sleep_for(std::chrono::duration<double>(options.duration));
  progress.counting = false;
  progress.stop = true;
  for (std::thread& thread : threads) thread.join();
  LatencyHistogram all;
  uint64_t answers = 0;
  for (const auto& worker : workers) {
    all.Add(worker->nanoseconds());
    answers += worker->answers();
  }
  std::printf(
      "{\"calls_per_second\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"answers\": %llu}\n",
      static_cast<double>(all.count()) / options.duration, all.Quantile(0.5) / 1e3,
      all.Quantile(0.99) / 1e3, static_cast<unsigned long long>(answers));
  return 0;
}

}  // namespace
}  // namespace broker

int main(int argc, char** argv) { return broker::Main(argc, argv); }
