#include "tests/bench/load_run.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/bench/load_background.h"
#include "tests/bench/load_channel.h"
#include "tests/bench/load_link.h"
#include "tests/bench/load_namespace.h"
#include "tests/bench/pipeline_link.h"
#include "tests/bench/unary_link.h"

namespace broker {
namespace {

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free);  // Set from a signal's handler.

// How long calls may take to be answered when no more are made.
constexpr std::chrono::seconds kLastAnswers(60);
// The clock is looked at no more often: what is due within that time goes out together.
constexpr int64_t kShortestTick = 20'000;
constexpr int64_t kLongestTick = 10'000'000;
constexpr int kCallersToPrepare = 512;

int64_t CpuTime() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto nanoseconds = [](const timeval& time) {
    return int64_t{time.tv_sec} * 1'000'000'000 + int64_t{time.tv_usec} * 1000;
  };
  return nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime);
}

void SleepUntil(int64_t time) {
  std::this_thread::sleep_until(std::chrono::steady_clock::time_point(Nanoseconds(time)));
}

// The connections, and the thread that looks at the clock for them.
class Fleet {
 public:
  using NewScript = std::function<std::unique_ptr<LoadScript>(int connection)>;

  Fleet(const LoadOptions& options, const std::vector<std::shared_ptr<grpc::Channel>>& channels,
        const NewScript& new_script, const LinkPace& pace) {
    for (size_t i = 0; i < channels.size(); ++i) {
      LinkPace own = pace;
      // One after the other, not all at once.
      own.first_arrival += pace.interval * static_cast<int64_t>(i) / options.connections;
      std::unique_ptr<LoadScript> script = new_script(static_cast<int>(i));
      if (options.mode == LoadMode::kUnary) {
        links_.push_back(std::make_unique<UnaryLink>(options, channels[i], std::move(script), own));
      } else {
        links_.push_back(
            std::make_unique<PipelineLink>(options, channels[i], std::move(script), own));
      }
    }
  }

  void CountBetween(int64_t from, int64_t until) {
    for (const auto& link : links_) link->tally().CountBetween(from, until);
  }
  void Start() {
    for (const auto& link : links_) link->Start();
  }
  // Does what is due until then, or until the load is interrupted.
  void TickUntil(int64_t end) {
    for (int64_t now = SteadyNow(); now < end; now = SteadyNow()) {
      if (interrupted) return;
      int64_t next = now + kLongestTick;
      for (const auto& link : links_) next = std::min(next, link->Tick(now));
      SleepUntil(std::min(end, std::max(next, now + kShortestTick)));
    }
    // The sleep may have been longer than it should.
    for (const auto& link : links_) link->Tick(end);
  }
  void Stop(int64_t now) {
    for (const auto& link : links_) link->Stop(now);
  }
  // Waits for the last answers and adds up; how many connections still lacked some.
  uint64_t Finish(Nanoseconds limit, LoadTally& tally) {
    uint64_t unanswered = 0;
    for (const auto& link : links_) {
      if (!link->Await(limit)) ++unanswered;
    }
    for (const auto& link : links_) {
      link->Close();
      tally.Add(link->tally());
    }
    return unanswered;
  }

 private:
  std::vector<std::unique_ptr<LoadLink>> links_;
};

// One run, from connecting to clearing up.
class Run {
 public:
  explicit Run(const LoadOptions& options) : options_(options) {
    result_.seconds = static_cast<double>(options_.duration.count()) / 1e9;
  }

  absl::Status Connect() {
    for (int i = 0; i < options_.connections; ++i) {
      channels_.push_back(NewLoadChannel(options_.endpoint));
      if (!AwaitConnected(*channels_.back())) {
        return absl::UnavailableError(
            absl::StrCat("no connection to ", options_.endpoint, " within 10 s"));
      }
    }
    return absl::OkStatus();
  }

  // The sessions that are used, and behind them those that are only held.
  void Prepare() {
    const int64_t begin = SteadyNow();
    std::vector<std::string> leases(options_.held_pins);
    if (!options_.prepared) Fill(options_, options_.keys, nullptr);
    if (options_.held_pins > 0) {
      Fill(Held(), options_.held_pins, &leases);
      holder_ =
          std::make_unique<RenewingHolder>(channels_[0], std::move(leases), options_.renew_every);
    }
    if (options_.subscribers > 0) {
      listeners_ = std::make_unique<Listeners>(options_, options_.subscribers);
    }
    result_.prepare_seconds = static_cast<double>(SteadyNow() - begin) / 1e9;
  }

  void Measure() {
    const int64_t begin = SteadyNow();
    const int64_t from = begin + options_.warmup.count();
    const int64_t until = from + options_.duration.count();
    LinkPace pace;
    pace.first_arrival = begin;
    pace.hold = options_.hold.count();
    if (options_.rate > 0) {
      pace.interval =
          std::max<int64_t>(1, std::llround(1e9 * options_.connections / options_.rate));
    }
    Fleet fleet(
        options_, channels_,
        [&](int connection) { return std::make_unique<PinScript>(options_, connection + 1); },
        pace);
    fleet.CountBetween(from, until);
    fleet.Start();
    const int64_t cpu_before = CpuTime();
    fleet.TickUntil(until);
    const int64_t end = std::min(until, SteadyNow());
    fleet.Stop(end);
    result_.interrupted = interrupted;
    result_.seconds = static_cast<double>(std::max<int64_t>(end - from, 1)) / 1e9;
    const int64_t cpu = CpuTime() - cpu_before;
    result_.unanswered += fleet.Finish(kLastAnswers, result_.tally);
    result_.cpu_us_per_call = static_cast<double>(cpu) / 1e3 /
                              static_cast<double>(std::max<uint64_t>(1, result_.tally.answers()));
  }

  void ClearUp() {
    if (holder_ != nullptr) {
      holder_->Stop();
      result_.renewed = holder_->renewed();
      result_.lost = holder_->lost();
    }
    if (listeners_ != nullptr) result_.events = listeners_->messages();
    listeners_.reset();
    if (options_.keep) return;
    Empty(options_, options_.keys);
    if (options_.held_pins > 0) Empty(Held(), options_.held_pins);
  }

  LoadResult& result() { return result_; }

 private:
  LoadOptions Held() const {
    LoadOptions held = options_;
    held.namespace_name = HeldNamespace(options_);
    return held;
  }

  void Fill(const LoadOptions& options, size_t keys, std::vector<std::string>* leases) {
    std::atomic<size_t> next = 0;
    RunToEnd(options, [&](int) { return std::make_unique<FillScript>(keys, next, leases); });
  }
  void Empty(const LoadOptions& options, size_t keys) {
    std::atomic<size_t> next = 0;
    RunToEnd(options, [&](int) { return std::make_unique<EmptyScript>(keys, next); });
  }
  // In either mode, the quickest way that there is.
  void RunToEnd(LoadOptions options, const Fleet::NewScript& new_script) {
    options.mode = LoadMode::kPipeline;
    options.in_flight = kCallersToPrepare;
    Fleet fleet(options, channels_, new_script, LinkPace());
    fleet.Start();
    result_.unanswered += fleet.Finish(std::chrono::minutes(10), errors_only_);
    // Their calls are no part of the load.
    result_.tally.AddErrors(errors_only_);
    errors_only_ = LoadTally();
  }

  const LoadOptions options_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::unique_ptr<RenewingHolder> holder_;
  std::unique_ptr<Listeners> listeners_;
  LoadTally errors_only_;
  LoadResult result_;
};

}  // namespace

void InterruptLoad() { interrupted = true; }

absl::StatusOr<LoadResult> RunLoad(const LoadOptions& options) {
  // Otherwise the kernel may wake the one who looks at the clock 50 us late.
  prctl(PR_SET_TIMERSLACK, 1UL);
  Run run(options);
  if (absl::Status status = run.Connect(); !status.ok()) return status;
  BenchNamespaces namespaces(options);
  if (!options.echo()) {
    if (absl::Status status = namespaces.Prepare(); !status.ok()) return status;
    run.Prepare();
  }
  if (run.result().tally.error_count() == 0) run.Measure();
  if (!options.echo()) {
    run.ClearUp();
    if (!options.keep) namespaces.ClearUp();
  }
  return std::move(run.result());
}

}  // namespace broker
