#include "client/cli/output.h"

#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/time_util.h>

#include <cstdio>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/cli/durations.h"

namespace sessionbroker::cli {

std::optional<std::string> ToJson(const google::protobuf::Message& message, JsonLayout layout) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = layout == JsonLayout::kIndented;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(message, &json, options).ok()) {
    return std::nullopt;
  }
  return json;
}

void PrintJson(const google::protobuf::Message& message) {
  const std::optional<std::string> json = ToJson(message, JsonLayout::kIndented);
  if (json.has_value()) std::fputs(json->c_str(), stdout);
}

void Print(const Table& table) { std::fputs(table.ToString().c_str(), stdout); }

std::string StateName(v1::SessionState state) {
  return std::string(absl::StripPrefix(v1::SessionState_Name(state), "SESSION_STATE_"));
}

std::string LeaseStatusName(v1::LeaseStatus status) {
  return std::string(absl::StripPrefix(v1::LeaseStatus_Name(status), "LEASE_STATUS_"));
}

std::string PinModeName(v1::PinMode mode) {
  return std::string(absl::StripPrefix(v1::PinMode_Name(mode), "PIN_MODE_"));
}

std::string EventTypeName(v1::EventType type) {
  const std::string name = v1::EventType_Name(type);
  if (name.empty()) return absl::StrCat(static_cast<int>(type));
  return std::string(absl::StripPrefix(name, "EVENT_TYPE_"));
}

std::string FormatTime(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0 && time.nanos() == 0) return "";
  return google::protobuf::util::TimeUtil::ToString(time);
}

std::string AbbreviateLease(const std::string& lease_id) {
  constexpr size_t kShown = 8;
  if (lease_id.empty()) return "\"\"";
  if (lease_id.size() <= kShown) return lease_id;
  return absl::StrCat(lease_id.substr(0, kShown), "...");
}

std::string DescribeCheckpoint(const v1::Session& session) {
  if (!session.has_checkpoint_time()) return "";
  return absl::StrCat(session.checkpoint_bytes(), " bytes of ",
                      FormatTime(session.checkpoint_time()));
}

void AddSessionRows(const v1::Session& session, Table& table) {
  table.AddRow({"key", session.key()});
  table.AddRow({"namespace", session.namespace_().empty() ? "default" : session.namespace_()});
  table.AddRow({"state", StateName(session.state())});
  table.AddRow({"generation", absl::StrCat(session.generation())});
  table.AddRow({"pins", absl::StrCat(session.pins())});
  table.AddRow({"endpoint", session.endpoint()});
  table.AddRow({"owner", session.owner()});
  const std::map<std::string, std::string> labels(session.labels().begin(), session.labels().end());
  for (const auto& [name, value] : labels) {
    table.AddRow({"label", absl::StrCat(name, "=", value)});
  }
  table.AddRow({"checkpoint", DescribeCheckpoint(session)});
  table.AddRow({"created", FormatTime(session.create_time())});
  table.AddRow({"last active", FormatTime(session.last_active_time())});
  table.AddRow({"idle until", FormatTime(session.idle_expire_time())});
  table.AddRow({"ends at", FormatTime(session.max_expire_time())});
}

}  // namespace sessionbroker::cli
