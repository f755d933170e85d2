#pragma once

#include <grpcpp/support/status.h>

#include <map>
#include <ostream>
#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace broker {

// What a client finds in the details of an error.
struct RpcError {
  int code = 0;
  std::string message;
  std::string reason;
  std::string domain;
  std::map<std::string, std::string> metadata;
  bool has_retry = false;
  double retry_seconds = 0;
  std::string quota_subject;
  std::string field;
  std::string field_description;
};

// Reads grpc-status-details-bin.
RpcError DetailsOf(const grpc::Status& status);

std::string ToText(const grpc::Status& status);

}  // namespace broker
