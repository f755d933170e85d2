#include "client/cli/drain_stream.h"

#include <memory>
#include <utility>

#include "client/cpp/error_details.h"

namespace sessionbroker::cli {

DrainStream::DrainStream(BrokerStub& stub, const v1::DrainRequest& request, TimePoint deadline,
                         std::function<void()> changed)
    : changed_(std::move(changed)) {
  if (deadline != TimePoint::max()) call_.set_deadline(ToGrpcDeadline(deadline));
  thread_ = std::thread([this, &stub, request] { Run(stub, request); });
}

DrainStream::~DrainStream() {
  call_.TryCancel();
  thread_.join();
}

std::optional<v1::DrainResponse> DrainStream::Next() {
  const std::lock_guard<std::mutex> lock(mu_);
  if (reports_.empty()) return std::nullopt;
  v1::DrainResponse report = std::move(reports_.front());
  reports_.pop_front();
  return report;
}

std::optional<absl::Status> DrainStream::end() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return end_;
}

void DrainStream::Run(BrokerStub& stub, const v1::DrainRequest& request) {
  const std::unique_ptr<grpc::ClientReader<v1::DrainResponse>> reader =
      stub.admin().Drain(&call_, request);
  v1::DrainResponse report;
  while (reader->Read(&report)) {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      reports_.push_back(std::move(report));
    }
    changed_();
  }
  const absl::Status end = FromGrpcStatus(reader->Finish());
  {
    const std::lock_guard<std::mutex> lock(mu_);
    end_ = end;
  }
  changed_();
}

}  // namespace sessionbroker::cli
