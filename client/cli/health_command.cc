#include <grpcpp/client_context.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/output.h"
#include "client/cpp/channel.h"
#include "client/cpp/error_details.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace sessionbroker::cli {
namespace {

namespace health = grpc::health::v1;

int Check(const std::string& service, const Context& context) {
  const std::unique_ptr<health::Health::Stub> stub =
      health::Health::NewStub(MakeChannel(context.endpoint));
  grpc::ClientContext call;
  call.set_deadline(ToGrpcDeadline(context.Deadline()));
  health::HealthCheckRequest request;
  request.set_service(service);
  health::HealthCheckResponse response;
  // Not retried: a probe that tries again hides what it is asked about.
  const absl::Status status = FromGrpcStatus(stub->Check(&call, request, &response));
  if (!status.ok()) return ReportError(status, context);
  if (context.json) {
    PrintJson(response);
  } else {
    std::puts(health::HealthCheckResponse::ServingStatus_Name(response.status()).c_str());
  }
  return response.status() == health::HealthCheckResponse::SERVING ? kExitOk : kExitUnavailable;
}

}  // namespace

void AddHealthCommand(CLI::App& app, Context& context) {
  auto service = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("health", "Ask whether the broker serves");
  command->add_option("service", *service, "Of one service; the broker as a whole if not given");
  command->footer(
      "Exits with 0 when it is SERVING, 3 when it is not or was not reached, 4 if there is no such "
      "service.\n\n"
      "Examples:\n"
      "  brokerctl health\n"
      "  brokerctl health sessionbroker.v1.SessionBrokerService");
  command->callback([service, &context] {
    context.action = [service, &context] { return Check(*service, context); };
  });
}

}  // namespace sessionbroker::cli
