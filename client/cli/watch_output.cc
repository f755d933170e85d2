#include "client/cli/watch_output.h"

#include <cstdio>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "client/cli/error_report.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

// What cannot be written is an empty object, so that the line is JSON in any case.
std::string ToLine(const google::protobuf::Message& message) {
  return ToJson(message, JsonLayout::kOneLine).value_or("{}");
}

void Say(const std::string& line) { std::fprintf(stderr, "brokerctl: %s\n", line.c_str()); }

}  // namespace

WatchPrinter::WatchPrinter(bool json, bool initial_state)
    : json_(json),
      initial_state_(initial_state),
      // What most rows need, so that columns seldom move.
      table_({30, 16, 11, 16, 16, 12, 4, 16}) {}

bool WatchPrinter::Print(const WatchEvent& event) {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    if (closed_) return true;
    printing_ = true;
    heard_ = heard_ || !std::holds_alternative<WatchInterrupted>(event);
  }
  std::string text = Format(event);
  if (!json_ && !header_printed_ && !text.empty()) {
    // No earlier: an error leaves stdout empty.
    header_printed_ = true;
    text = table_.Row({"TIME", "REVISION", "TYPE", "KEY", "GENERATION", "STATE", "PINS", "HOLDER",
                       "REASON"}) +
           text;
  }
  std::fwrite(text.data(), 1, text.size(), stdout);
  const bool printed = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  const std::lock_guard<std::mutex> lock(mu_);
  printing_ = false;
  closed_ = closed_ || !printed;
  if (const auto* change = std::get_if<v1::Event>(&event); change != nullptr && printed) {
    revision_ = change->revision();
  } else if (const auto* synced = std::get_if<WatchSynced>(&event); synced != nullptr && printed) {
    revision_ = synced->revision;
  }
  done_.notify_all();
  return printed;
}

bool WatchPrinter::Close(Duration limit) {
  std::unique_lock<std::mutex> lock(mu_);
  closed_ = true;
  return done_.wait_for(lock, limit, [this] { return !printing_; });
}

bool WatchPrinter::closed() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return closed_;
}

bool WatchPrinter::heard() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return heard_;
}

std::optional<uint64_t> WatchPrinter::revision() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return revision_;
}

std::string WatchPrinter::Format(const WatchEvent& event) {
  if (const auto* change = std::get_if<v1::Event>(&event)) return FormatEvent(*change);
  if (const auto* initial = std::get_if<WatchInitial>(&event)) return FormatInitial(*initial);
  if (const auto* synced = std::get_if<WatchSynced>(&event)) return FormatSynced(*synced);
  if (const auto* gap = std::get_if<WatchGap>(&event)) return FormatGap(*gap);
  return FormatInterrupted(std::get<WatchInterrupted>(event));
}

std::string WatchPrinter::FormatEvent(const v1::Event& event) {
  if (json_) return ToLine(event) + "\n";
  const v1::Session& session = event.session();
  return table_.Row({FormatTime(event.time()), absl::StrCat(event.revision()),
                     EventTypeName(event.type()), session.key(), absl::StrCat(session.generation()),
                     StateName(session.state()), absl::StrCat(session.pins()), event.holder(),
                     event.reason()});
}

std::string WatchPrinter::FormatInitial(const WatchInitial& initial) {
  std::string text;
  for (const v1::Session& session : initial.sessions()) {
    if (json_) {
      absl::StrAppend(&text, "{\"initial\":", ToLine(session), "}\n");
      continue;
    }
    text += table_.Row({FormatTime(session.last_active_time()), absl::StrCat(session.revision()),
                        "(initial)", session.key(), absl::StrCat(session.generation()),
                        StateName(session.state()), absl::StrCat(session.pins()), "", ""});
  }
  return text;
}

std::string WatchPrinter::FormatSynced(const WatchSynced& synced) {
  if (interrupted_) {
    Say(absl::StrCat("connected again; goes on after revision ", synced.revision));
  }
  interrupted_ = false;
  if (synced.resumed) return "";
  if (json_) return absl::StrCat("{\"synced\":{\"revision\":\"", synced.revision, "\"}}\n");
  return table_.Row({"", absl::StrCat(synced.revision), "(synced)", "", "", "", "", "", ""});
}

std::string WatchPrinter::FormatGap(const WatchGap& gap) {
  interrupted_ = false;
  Say(absl::StrCat("events were missed: the broker cannot go on from revision ", gap.after,
                   ", only from ", gap.oldest, " to ", gap.newest, "; starts over ",
                   initial_state_ ? "with the initial state" : "from now"));
  if (!json_) return "";
  return absl::StrCat("{\"gap\":{\"after\":\"", gap.after, "\",\"oldest\":\"", gap.oldest,
                      "\",\"newest\":\"", gap.newest, "\"}}\n");
}

std::string WatchPrinter::FormatInterrupted(const WatchInterrupted& interrupted) {
  // Once for many attempts; and not for those before the first stream, which are few, and whose
  // failure is the error of the command.
  if (!interrupted_ && heard()) {
    Say(absl::StrCat("the stream broke: ", NameError(interrupted.status), "; connecting again",
                     interrupted.restarts ? ", and the initial state starts over" : ""));
    interrupted_ = true;
  }
  return interrupted.restarts && json_ ? "{\"restart\":{}}\n" : "";
}

}  // namespace sessionbroker::cli
