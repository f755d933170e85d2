#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/broker_process.h"

namespace broker {

// What a run of brokerctl came to, as its user sees it.
struct CtlResult {
  int code = -1;  // -1: it did not end.
  std::string out;
  std::string errors;
};

// brokerctl started as from a script: nothing on stdin, which also means no terminal.
inline std::unique_ptr<ChildProcess> StartCtl(const std::string& endpoint,
                                              const std::vector<std::string>& args) {
  std::vector<std::string> words = {"-c", "exec \"$0\" \"$@\" </dev/null",
                                    ChildProcess::Sibling("brokerctl")};
  words.insert(words.end(), args.begin(), args.end());
  ChildProcess::Options options;
  options.environment = {absl::StrCat("BROKERCTL_ENDPOINT=", endpoint)};
  return std::make_unique<ChildProcess>("/bin/sh", words, options);
}

inline CtlResult FinishCtl(ChildProcess& process) {
  CtlResult result;
  while (std::optional<std::string> line = process.ReadLine()) {
    absl::StrAppend(&result.out, *line, "\n");
  }
  result.code = process.AwaitExit().value_or(-1);
  result.errors = process.Errors();
  return result;
}

inline CtlResult RunCtl(const std::string& endpoint, const std::vector<std::string>& args) {
  return FinishCtl(*StartCtl(endpoint, args));
}

// The value beside `name` in a table of names and values; "" if there is none.
inline std::string Field(const std::string& table, const std::string& name) {
  for (size_t start = 0; start < table.size();) {
    const size_t end = std::min(table.find('\n', start), table.size());
    const std::string line = table.substr(start, end - start);
    if (line.rfind(name + "  ", 0) == 0) {
      return line.substr(line.find_first_not_of(' ', name.size()));
    }
    start = end + 1;
  }
  return "";
}

}  // namespace broker
