#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/client_options.h"
#include "client/cpp/time_types.h"

namespace sessionbroker::cli {

// Flags that several commands have. Values that cannot be read are usage errors that name the flag.

CLI::Option* AddNamespaceFlag(CLI::App& app, std::string& value);
CLI::Option* AddDurationFlag(CLI::App& app, const std::string& name, std::optional<Duration>& value,
                             const std::string& help);
// The same, where "never" means zero.
CLI::Option* AddDurationOrNeverFlag(CLI::App& app, const std::string& name,
                                    std::function<void(Duration)> set, const std::string& help);
// A whole number, as large as `Number` can hold.
template <typename Number>
CLI::Option* AddCountFlag(CLI::App& app, const std::string& name, std::function<void(Number)> set,
                          const std::string& help) {
  // CLI11 reads numbers itself, but does not say what it would have taken.
  auto read = [name, set = std::move(set)](const std::string& text) {
    Number value = 0;
    if (!absl::SimpleAtoi(text, &value)) {
      throw CLI::ValidationError(name, absl::StrCat("\"", text, "\" is no whole number from 0 to ",
                                                    std::numeric_limits<Number>::max()));
    }
    set(value);
  };
  return app.add_option_function<std::string>(name, read, help)->type_name("N");
}

// "k=v", as often as wanted.
CLI::Option* AddLabelsFlag(CLI::App& app, const std::string& help,
                           std::map<std::string, std::string>& value);

// The flags of `acquire` and `run` that say what to acquire, all but the key.
struct AcquireFlags {
  AcquireOptions options;
  std::string holder;
};
void AddAcquireFlags(CLI::App& app, AcquireFlags& flags);

// "brokerctl@HOST", where --holder is not given.
std::string DefaultHolder();

}  // namespace sessionbroker::cli
