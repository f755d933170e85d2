#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cpp/retry.h"
#include "client/cpp/watch_types.h"
#include "tests/support/await.h"

namespace broker {

// For watches whose streams break often.
inline constexpr sessionbroker::RetryPolicy kQuickRetry = {
    .initial_backoff = std::chrono::milliseconds(1), .max_backoff = std::chrono::milliseconds(4)};

// Keeps what a watch told, a line each: "initial a b", "synced 5", "resumed 5", "event 6",
// "gap 3 10-20", "interrupted UNAVAILABLE", "restarts UNAVAILABLE", "end OK". Thread-safe; must
// outlive the watch.
class WatchRecorder {
 public:
  sessionbroker::WatchCallback callback() {
    return [this](const sessionbroker::WatchEvent& event) { Add(Describe(event)); };
  }
  std::function<void(const absl::Status&)> on_end() {
    return [this](const absl::Status& status) {
      Add(absl::StrCat("end ", absl::StatusCodeToString(status.code())));
    };
  }

  void Add(std::string line) {
    std::lock_guard<std::mutex> lock(mu_);
    told_.push_back(std::move(line));
  }
  std::vector<std::string> told() const {
    std::lock_guard<std::mutex> lock(mu_);
    return told_;
  }
  // Only the lines that begin with `word`.
  std::vector<std::string> told(const std::string& word) const {
    std::vector<std::string> lines;
    for (const std::string& line : told()) {
      if (line.rfind(word, 0) == 0) lines.push_back(line);
    }
    return lines;
  }
  bool AwaitTold(const std::string& line) const {
    return Await([&] {
      const std::vector<std::string> lines = told();
      return std::find(lines.begin(), lines.end(), line) != lines.end();
    });
  }

  static std::string Describe(const sessionbroker::WatchEvent& event) {
    using namespace sessionbroker;  // NOLINT: the alternatives of WatchEvent.
    if (const auto* initial = std::get_if<WatchInitial>(&event)) {
      std::string line = "initial";
      for (const v1::Session& session : initial->sessions()) {
        absl::StrAppend(&line, " ", session.key());
      }
      return line;
    }
    if (const auto* synced = std::get_if<WatchSynced>(&event)) {
      return absl::StrCat(synced->resumed ? "resumed " : "synced ", synced->revision);
    }
    if (const auto* change = std::get_if<v1::Event>(&event)) {
      return absl::StrCat("event ", change->revision());
    }
    if (const auto* gap = std::get_if<WatchGap>(&event)) {
      return absl::StrCat("gap ", gap->after, " ", gap->oldest, "-", gap->newest);
    }
    const auto& interrupted = std::get<WatchInterrupted>(event);
    return absl::StrCat(interrupted.restarts ? "restarts " : "interrupted ",
                        absl::StatusCodeToString(interrupted.status.code()));
  }

 private:
  mutable std::mutex mu_;
  std::vector<std::string> told_;
};

}  // namespace broker
