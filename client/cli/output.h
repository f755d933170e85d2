#pragma once

#include <google/protobuf/message.h>
#include <google/protobuf/timestamp.pb.h>

#include <optional>
#include <string>

#include "client/cli/table.h"
#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker::cli {

enum class JsonLayout { kOneLine, kIndented };

// Protobuf's JSON form, fields with their names as in the proto; fields that are at their default
// are there too, for scripts that ask for them. Nothing if the message has none, such as for a time
// that is out of range.
std::optional<std::string> ToJson(const google::protobuf::Message& message, JsonLayout layout);

// Indented, on stdout.
void PrintJson(const google::protobuf::Message& message);

void Print(const Table& table);

// "ACTIVE" for SESSION_STATE_ACTIVE, and so on.
std::string StateName(v1::SessionState state);
std::string LeaseStatusName(v1::LeaseStatus status);
std::string PinModeName(v1::PinMode mode);
// The number of one of a later version.
std::string EventTypeName(v1::EventType type);

// "2024-05-01T12:00:00Z", "" for an unset time.
std::string FormatTime(const google::protobuf::Timestamp& time);

// Enough of a lease id to recognize it; the rest is secret. What is too short to be one is shown as
// it is: it is somebody's mistake, "" most of all.
std::string AbbreviateLease(const std::string& lease_id);

// "5 bytes of 2024-05-01T12:00:00Z"; "" if there is none.
std::string DescribeCheckpoint(const v1::Session& session);

// A row a field, of what is set.
void AddSessionRows(const v1::Session& session, Table& table);

}  // namespace sessionbroker::cli
