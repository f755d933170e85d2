#include "client/cli/top_output.h"

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/cli/table.h"

namespace sessionbroker::cli {
namespace {

// What counts against max_sessions.
uint64_t Used(const v1::NamespaceUsage& usage) {
  return uint64_t{usage.initializing()} + usage.active() + usage.suspending() + usage.ending();
}

double Share(const v1::Namespace& entry) {
  const uint32_t limit = entry.config().max_sessions();
  if (limit == 0) return 0;
  return static_cast<double>(Used(entry.usage())) / limit;
}

// What an operator should know before wondering at the numbers.
std::string Notes(const v1::NamespaceUsage& usage) {
  std::string notes = usage.draining() ? "draining" : "";
  if (usage.has_recovery_end_time())
    absl::StrAppend(&notes, notes.empty() ? "" : ",", "recovering");
  return notes;
}

// The first `columns` characters, which are as many columns as Table counts.
std::string Cut(absl::string_view line, size_t columns) {
  size_t shown = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    const bool begins = (static_cast<unsigned char>(line[i]) & 0xc0) != 0x80;
    if (begins && shown++ == columns) return std::string(line.substr(0, i));
  }
  return std::string(line);
}

}  // namespace

void SortByUse(v1::ListNamespacesResponse& response) {
  const auto busier = [](const v1::Namespace* a, const v1::Namespace* b) {
    return std::make_tuple(Share(*b), b->usage().waiters(), b->usage().leases(),
                           std::cref(a->name())) < std::make_tuple(Share(*a), a->usage().waiters(),
                                                                   a->usage().leases(),
                                                                   std::cref(b->name()));
  };
  std::sort(response.mutable_namespaces()->pointer_begin(),
            response.mutable_namespaces()->pointer_end(), busier);
}

std::string FormatTop(const v1::ListNamespacesResponse& response) {
  uint64_t sessions = 0, suspended = 0, leases = 0, waiters = 0;
  Table table({"NAMESPACE", "USED/LIMIT", "USE", "INITIALIZING", "ACTIVE", "PINNED", "SUSPENDING",
               "ENDING", "SUSPENDED", "LEASES", "WAITERS", "NOTES"});
  for (const v1::Namespace& entry : response.namespaces()) {
    const v1::NamespaceUsage& usage = entry.usage();
    sessions += Used(usage);
    suspended += usage.suspended();
    leases += usage.leases();
    waiters += usage.waiters();
    table.AddRow({entry.name(), absl::StrCat(Used(usage), "/", entry.config().max_sessions()),
                  absl::StrFormat("%.0f%%", Share(entry) * 100), absl::StrCat(usage.initializing()),
                  absl::StrCat(usage.active()), absl::StrCat(usage.pinned()),
                  absl::StrCat(usage.suspending()), absl::StrCat(usage.ending()),
                  absl::StrCat(usage.suspended()), absl::StrCat(usage.leases()),
                  absl::StrCat(usage.waiters()), Notes(usage)});
  }
  return absl::StrCat("namespaces: ", response.namespaces_size(), "  sessions: ", sessions,
                      "  suspended: ", suspended, "  leases: ", leases, "  waiters: ", waiters,
                      "\n\n", table.ToString());
}

std::string FitScreen(const std::string& text, size_t rows, size_t columns) {
  std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  const bool all = lines.size() <= rows;
  const size_t shown = all ? lines.size() : rows - std::min<size_t>(rows, 1);
  std::string out;
  for (size_t i = 0; i < shown; ++i) absl::StrAppend(&out, Cut(lines[i], columns), "\n");
  if (!all) {
    absl::StrAppend(&out, Cut(absl::StrCat("... and ", lines.size() - shown, " more"), columns),
                    "\n");
  }
  return out;
}

}  // namespace sessionbroker::cli
