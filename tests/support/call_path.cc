#include "tests/support/call_path.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_interceptor.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "tests/support/pipeline_link.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;

constexpr absl::string_view kService = "/sessionbroker.v1.SessionBrokerService/";

// The field of a PipelineCall that calls `method`; null where there is none.
const google::protobuf::FieldDescriptor* FieldFor(absl::string_view method) {
  if (method.substr(0, kService.size()) != kService) return nullptr;
  const std::string name(method.substr(kService.size()));
  const google::protobuf::Descriptor& call = *pb::PipelineCall::descriptor();
  for (int i = 0; i < call.field_count(); ++i) {
    const google::protobuf::FieldDescriptor* field = call.field(i);
    if (field->containing_oneof() != nullptr && field->message_type()->name() == name + "Request") {
      return field;
    }
  }
  return nullptr;
}

// One call that is made over the link and never reaches the channel that it was made on.
class Detour final : public grpc::experimental::Interceptor {
 public:
  Detour(grpc::experimental::ClientRpcInfo* info, std::shared_ptr<PipelineLink> link,
         const google::protobuf::FieldDescriptor* field)
      : info_(info), link_(std::move(link)), field_(field), call_(link_->NewCall()) {}

  void Intercept(InterceptorBatchMethods* batch) override {
    // On another thread than the call, which waits.
    if (batch->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_CANCEL)) {
      link_->Cancel(*call_);
      batch->Proceed();
      return;
    }
    const bool sends = batch->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_MESSAGE);
    if (sends) result_ = Make(*batch->GetSerializedSendMessage());
    if (batch->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_RECV_MESSAGE)) {
      auto* response = static_cast<google::protobuf::Message*>(batch->GetRecvMessage());
      if (result_.status.ok()) response->ParseFromString(result_.response);
    }
    if (batch->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_RECV_STATUS)) {
      *batch->GetRecvStatus() = result_.status;
    }
    if (sends) {
      batch->Hijack();
    } else {
      batch->Proceed();
    }
  }

 private:
  PipelineLink::Result Make(grpc::ByteBuffer& request) {
    pb::PipelineCall message;
    std::vector<grpc::Slice> slices;
    std::string bytes;
    if (request.Dump(&slices).ok()) {
      for (const grpc::Slice& slice : slices) {
        bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
      }
    }
    message.GetReflection()->MutableMessage(&message, field_)->ParseFromString(bytes);
    return link_->Make(*call_, std::move(message), info_->client_context()->deadline());
  }

  grpc::experimental::ClientRpcInfo* const info_;
  const std::shared_ptr<PipelineLink> link_;
  const google::protobuf::FieldDescriptor* const field_;
  const std::shared_ptr<PipelineLink::Call> call_;
  PipelineLink::Result result_;
};

class DetourFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit DetourFactory(std::shared_ptr<grpc::Channel> channel)
      : link_(std::make_shared<PipelineLink>(std::move(channel))) {}

  grpc::experimental::Interceptor* CreateClientInterceptor(
      grpc::experimental::ClientRpcInfo* info) override {
    // Calls of generic stubs are made of bytes, and stay what they are.
    if (info->type() != grpc::experimental::ClientRpcInfo::Type::UNARY) return nullptr;
    const google::protobuf::FieldDescriptor* field = FieldFor(info->method());
    return field == nullptr ? nullptr : new Detour(info, link_, field);
  }

 private:
  const std::shared_ptr<PipelineLink> link_;
};

}  // namespace

bool CallsArePipelined() {
  const char* path = std::getenv("CALL_PATH");
  return path != nullptr && std::string(path) == "pipeline";
}

std::shared_ptr<grpc::Channel> NewTestChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto plain =
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  if (!CallsArePipelined()) return plain;
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> factories;
  factories.push_back(std::make_unique<DetourFactory>(plain));
  return grpc::experimental::CreateCustomChannelWithInterceptors(
      address, grpc::InsecureChannelCredentials(), arguments, std::move(factories));
}

}  // namespace broker
