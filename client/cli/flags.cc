#include "client/cli/flags.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/durations.h"

namespace sessionbroker::cli {
namespace {

CLI::Option* AddDuration(CLI::App& app, const std::string& name, std::function<void(Duration)> set,
                         const std::string& help, bool allow_never) {
  auto read = [name, set = std::move(set), allow_never](const std::string& text) {
    if (allow_never && text == "never") {
      set(Duration::zero());
      return;
    }
    const absl::StatusOr<Duration> parsed = ParseDuration(text);
    if (!parsed.ok()) throw CLI::ValidationError(name, std::string(parsed.status().message()));
    set(*parsed);
  };
  return app.add_option_function<std::string>(name, read, help)->type_name("DURATION");
}

}  // namespace

CLI::Option* AddNamespaceFlag(CLI::App& app, std::string& value) {
  return app.add_option("-n,--namespace", value, "Namespace; \"default\" if not given")
      ->type_name("NAME");
}

CLI::Option* AddDurationFlag(CLI::App& app, const std::string& name, std::optional<Duration>& value,
                             const std::string& help) {
  return AddDuration(
      app, name, [&value](Duration duration) { value = duration; }, help, /*allow_never=*/false);
}

CLI::Option* AddDurationOrNeverFlag(CLI::App& app, const std::string& name,
                                    std::function<void(Duration)> set, const std::string& help) {
  return AddDuration(app, name, std::move(set), help, /*allow_never=*/true);
}

CLI::Option* AddLabelsFlag(CLI::App& app, const std::string& help,
                           std::map<std::string, std::string>& value) {
  CLI::Option* option = app.add_option_function<std::vector<std::string>>(
      "--label",
      [&value](const std::vector<std::string>& labels) {
        for (const std::string& label : labels) {
          const size_t equals = label.find('=');
          if (equals == std::string::npos || equals == 0) {
            throw CLI::ValidationError("--label",
                                       absl::StrCat("\"", label, "\" is not of the form k=v"));
          }
          value[label.substr(0, equals)] = label.substr(equals + 1);
        }
      },
      help);
  // One value each time, so that what follows is not taken for labels too.
  return option->type_name("K=V")->allow_extra_args(false);
}

void AddAcquireFlags(CLI::App& app, AcquireFlags& flags) {
  AcquireOptions& options = flags.options;
  AddNamespaceFlag(app, options.namespace_name);
  app.add_option("--holder", flags.holder, "Who holds it, for operators (brokerctl@HOST)")
      ->type_name("TEXT");
  app.add_option("--owner", options.owner, "On whose quota a new session counts")
      ->type_name("TEXT");
  app.add_flag_callback(
      "--exclusive", [&options] { options.mode = v1::PIN_MODE_EXCLUSIVE; },
      "Hold it alone, after those who came first");
  app.add_flag_callback(
      "--existing", [&options] { options.if_absent = v1::IF_ABSENT_FAIL; },
      "Do not create it; there being none is an error");
  AddDurationFlag(app, "--ttl", options.lease_ttl,
                  "How long the pin outlives its last renewal (the namespace's default)");
  AddDurationFlag(app, "--wait", options.wait_timeout,
                  "How long to wait for others; 0: not at all (the namespace's default)");
  AddLabelsFlag(app, "Label of a new session; may be repeated", options.labels);
}

std::string DefaultHolder() {
  char host[100] = "";
  gethostname(host, sizeof(host) - 1);
  return absl::StrCat("brokerctl@", host);
}

}  // namespace sessionbroker::cli
