#include "server/rpc/config_file.h"

#include <google/protobuf/util/json_util.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/error.h"
#include "server/rpc/field_checks.h"
#include "server/rpc/namespace_convert.h"
#include "server/rpc/tcp_listener.h"
#include "sessionbroker/config/v1/config.pb.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::config::v1;

constexpr uint32_t kMaxSubscriberLimit = 1'000'000;
constexpr Duration kMinStreamAge = std::chrono::seconds(1);
constexpr Duration kMaxStreamAge = std::chrono::hours(24);
constexpr Duration kMaxShutdownGrace = std::chrono::minutes(10);
// Every name that max_namespaces allows, with all its settings, is a fifth of it.
constexpr size_t kMaxConfigBytes = 4 << 20;

// Decides the idle policy that nobody set, which is right either way; whether there is a store is
// not known here.
constexpr bool kCanSuspend = false;

absl::Status ReadAddress(absl::string_view field, const std::string& text,
                         std::optional<std::string>& address) {
  if (text.empty()) return absl::OkStatus();
  const absl::Status status = ParseHostPort(text).status();
  if (!status.ok()) return InvalidField(field, absl::string_view(status.message()));
  address = text;
  return absl::OkStatus();
}

absl::Status ReadShutdownGrace(const pb::ServerConfig& config, ServerSettings& settings) {
  if (!config.has_shutdown_grace()) return absl::OkStatus();
  const absl::StatusOr<Duration> grace = ReadDuration("shutdown_grace", config.shutdown_grace());
  if (!grace.ok()) return grace.status();
  if (*grace > kMaxShutdownGrace) return InvalidField("shutdown_grace", "must be at most 600 s");
  settings.shutdown_grace = *grace;
  return absl::OkStatus();
}

absl::Status ReadMaxNamespaces(const pb::ServerConfig& config, ServerSettings& settings) {
  if (config.has_max_namespaces()) settings.max_namespaces = config.max_namespaces();
  if (settings.max_namespaces < 1 || settings.max_namespaces > kMaxNamespaces) {
    return InvalidField("max_namespaces", absl::StrCat("must be 1 to ", kMaxNamespaces, ", is ",
                                                       settings.max_namespaces));
  }
  if (static_cast<uint32_t>(config.namespaces_size()) > settings.max_namespaces) {
    return InvalidField("namespaces", absl::StrCat("holds ", config.namespaces_size(),
                                                   ", which is more than max_namespaces (",
                                                   settings.max_namespaces, ")"));
  }
  return absl::OkStatus();
}

absl::Status ReadSubscriberLimit(absl::string_view field, bool present, uint32_t value,
                                 uint32_t& limit) {
  if (!present) return absl::OkStatus();
  if (value < 1 || value > kMaxSubscriberLimit) {
    return InvalidField(field, absl::StrCat("must be 1 to ", kMaxSubscriberLimit, ", is ", value));
  }
  limit = value;
  return absl::OkStatus();
}

absl::Status ReadStreams(const pb::ServerConfig& config, ServerSettings& settings) {
  absl::Status status = ReadSubscriberLimit("max_subscribers", config.has_max_subscribers(),
                                            config.max_subscribers(), settings.rpc.max_subscribers);
  if (status.ok()) {
    status = ReadSubscriberLimit(
        "max_subscribers_per_namespace", config.has_max_subscribers_per_namespace(),
        config.max_subscribers_per_namespace(), settings.max_subscribers_per_namespace);
  }
  if (!status.ok() || !config.has_max_stream_age()) return status;
  const absl::StatusOr<Duration> age = ReadDuration("max_stream_age", config.max_stream_age());
  if (!age.ok()) return age.status();
  if (*age < kMinStreamAge || *age > kMaxStreamAge) {
    return InvalidField("max_stream_age", "must be 1 s to 24 h");
  }
  settings.rpc.max_stream_age = *age;
  return absl::OkStatus();
}

absl::Status ReadDefaults(const pb::ServerConfig& config, ServerSettings& settings) {
  const absl::Status status = ApplyConfig(config.defaults(), "defaults.", settings.defaults);
  if (!status.ok()) return status;
  return Validate(Resolve(NamespaceSettings(), settings.defaults, kCanSuspend), "defaults.");
}

absl::Status ReadNamespaces(const pb::ServerConfig& config, ServerSettings& settings) {
  std::set<std::string> names;
  for (int i = 0; i < config.namespaces_size(); ++i) {
    const pb::NamespaceEntry& entry = config.namespaces(i);
    const std::string path = absl::StrCat("namespaces[", i, "].");
    const std::string name_field = absl::StrCat(path, "name");
    if (entry.name().empty()) return InvalidField(name_field, "must be given");
    if (absl::Status status = CheckNamespaceName(name_field, entry.name()); !status.ok()) {
      return status;
    }
    if (!names.insert(entry.name()).second) {
      return InvalidField(name_field, absl::StrCat("there is another \"", entry.name(), "\""));
    }
    const std::string config_path = absl::StrCat(path, "config.");
    NamespaceSettings own;
    absl::Status status = ApplyConfig(entry.config(), config_path, own);
    if (status.ok()) status = Validate(Resolve(own, settings.defaults, kCanSuspend), config_path);
    if (!status.ok()) return status;
    settings.namespaces.emplace_back(entry.name(), own);
  }
  return absl::OkStatus();
}

// Protobuf's "(namespaces[1].config) nope: Cannot find field." and "(defaults.max_sessions):
// invalid value", written as our own errors are.
std::string Reword(absl::string_view message) {
  if (absl::ConsumePrefix(&message, ": ")) return std::string(message);  // Of the whole.
  const size_t end = message.find(')');
  if (message.empty() || message[0] != '(' || end == absl::string_view::npos) {
    return std::string(message);
  }
  const absl::string_view path = message.substr(1, end - 1);
  absl::string_view rest = message.substr(end + 1);
  return absl::ConsumePrefix(&rest, " ") ? absl::StrCat(path, ".", rest) : absl::StrCat(path, rest);
}

}  // namespace

absl::StatusOr<ServerSettings> ParseServerConfig(absl::string_view json) {
  pb::ServerConfig config;
  const auto parsed = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(json.data(), json.size()), &config);
  if (!parsed.ok()) {
    const auto message = parsed.message();
    return absl::InvalidArgumentError(Reword(absl::string_view(message.data(), message.size())));
  }
  ServerSettings settings;
  absl::Status status = ReadAddress("listen", config.listen(), settings.listen);
  if (status.ok()) {
    status = ReadAddress("metrics_listen", config.metrics_listen(), settings.metrics_listen);
  }
  if (!config.data_dir().empty()) settings.data_dir = config.data_dir();
  if (status.ok()) status = ReadShutdownGrace(config, settings);
  if (status.ok()) status = ReadMaxNamespaces(config, settings);
  if (status.ok()) status = ReadStreams(config, settings);
  if (status.ok()) status = ReadDefaults(config, settings);
  if (status.ok()) status = ReadNamespaces(config, settings);
  if (!status.ok()) return status;
  return settings;
}

absl::StatusOr<ServerSettings> ReadServerConfig(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  bool readable = in.is_open();
  std::string text;
  for (char part[4096]; readable && !in.eof() && text.size() <= kMaxConfigBytes;) {
    in.read(part, sizeof(part));
    text.append(part, static_cast<size_t>(in.gcount()));
    readable = !in.bad();  // Such as for a directory, which can be opened.
  }
  if (!readable) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": cannot be read: ", std::strerror(errno)));
  }
  if (text.size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": is longer than ", kMaxConfigBytes, " bytes"));
  }
  absl::StatusOr<ServerSettings> settings = ParseServerConfig(text);
  if (!settings.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", settings.status().message()));
  }
  return settings;
}

}  // namespace broker
