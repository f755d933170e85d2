#pragma once

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client/cpp/broker_stub.h"
#include "client/cpp/channel.h"
#include "client/cpp/pipeline.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/await.h"
#include "tests/support/fake_broker_service.h"

namespace sessionbroker {

// A stub whose calls go over a Pipeline, and one beside it whose calls are unary.
class PipelineTest : public testing::Test {
 protected:
  using FakeBrokerService = ::broker::FakeBrokerService;
  using Message = FakeBrokerService::Message;

  static v1::AcquireRequest AcquireOf(const std::string& key, const std::string& request_id = "") {
    v1::AcquireRequest request;
    request.set_key(key);
    request.set_request_id(request_id);
    return request;
  }
  static v1::ReleaseRequest ReleaseOf(const std::string& lease_id) {
    v1::ReleaseRequest request;
    request.set_lease_id(lease_id);
    return request;
  }
  static v1::RenewRequest RenewOf(const std::string& lease_id) {
    v1::RenewRequest request;
    request.add_lease_ids(lease_id);
    return request;
  }
  static TimePoint Soon() { return DeadlineIn(std::chrono::seconds(20)); }

  // Keeps the broker from reading, with a message under way that is larger than what HTTP/2 takes
  // for it meanwhile: what is called from now on gathers, until fake_.Unstall("Pipeline"). Before
  // the first other call.
  void HoldReading() {
    fake_.Stall("Pipeline");
    blocker_ = std::jthread([this] {
      v1::PipelineCall call;
      call.mutable_checkpoint()->set_data(std::string(1 << 20, 'x'));
      stub_.pipeline()->Call(std::move(call), Soon(), /*give_back_late=*/false);
    });
    ASSERT_TRUE(::broker::Await([&] {
      const Pipeline::Load load = stub_.pipeline()->load();
      return load.calls == 1 && load.gathered == 0 && load.writing;
    }));
  }
  void AwaitGathered(size_t calls) {
    ASSERT_TRUE(::broker::Await([&] { return stub_.pipeline()->load().gathered == calls; }));
  }

  FakeBrokerService fake_;
  BrokerStub unary_{MakeChannel(fake_.endpoint()), RetryPolicy(), /*seed=*/7, /*pipeline=*/false};
  BrokerStub stub_{MakeChannel(fake_.endpoint()), RetryPolicy(), /*seed=*/7};
  std::jthread blocker_;  // Joined before the stub goes.
};

}  // namespace sessionbroker
