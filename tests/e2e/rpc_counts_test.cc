// What the metrics say of calls: each counts once as begun and once as ended, however it ends.
#include <google/protobuf/descriptor.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/broker_server.h"
#include "tests/support/raw_call.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using Service = pb::SessionBrokerService;

class CallCountsTest : public ::testing::Test {
 protected:
  RpcMethodSample Of(const std::string& method) {
    BrokerSample sample;
    server_.server().AddTo(sample);
    for (const RpcMethodSample& candidate : sample.rpc_methods) {
      if (candidate.name == method) return candidate;
    }
    ADD_FAILURE() << "no method " << method;
    return {};
  }
  // Those that ended, by code, without the zeros.
  std::map<std::string, uint64_t> EndsOf(const std::string& method) {
    std::map<std::string, uint64_t> ends;
    for (const NamedCount& code : Of(method).handled) {
      if (code.count > 0) ends[code.name] = code.count;
    }
    return ends;
  }
  static uint64_t Observed(const RpcMethodSample& method) {
    uint64_t count = 0;
    for (const uint64_t bucket : method.handling.counts) count += bucket;
    return count;
  }
  static pb::AcquireRequest RequestFor(const std::string& key) {
    pb::AcquireRequest request;
    request.set_key(key);
    request.mutable_wait_timeout()->set_seconds(600);
    return request;
  }

  BrokerServer server_;
  std::unique_ptr<Service::Stub> stub_ = Service::NewStub(server_.channel());
};

TEST_F(CallCountsTest, EveryMethodOfTheContractIsThereFromZeroWithEveryCode) {
  BrokerSample sample;
  server_.server().AddTo(sample);

  std::map<std::string, std::string> types;
  for (const RpcMethodSample& method : sample.rpc_methods) {
    types[absl::StrCat(method.service, "/", method.name)] = method.type;
    EXPECT_EQ(method.started, 0u);
    EXPECT_EQ(method.handled.size(), 17u);
    EXPECT_EQ(Observed(method), 0u);
  }
  const auto& file = *pb::AcquireRequest::descriptor()->file();
  size_t methods = 0;
  for (int i = 0; i < file.service_count(); ++i) methods += file.service(i)->method_count();
  EXPECT_EQ(types.size(), methods);
  EXPECT_EQ(types["sessionbroker.v1.SessionBrokerService/Acquire"], "unary");
  EXPECT_EQ(types["sessionbroker.v1.SessionBrokerService/Subscribe"], "server_stream");
}

// Fails for a method that is served and does not count itself.
TEST_F(CallCountsTest, EveryMethodThatIsServedCountsItsCalls) {
  const auto& file = *pb::AcquireRequest::descriptor()->file();
  int served = 0;
  for (int i = 0; i < file.service_count(); ++i) {
    for (int j = 0; j < file.service(i)->method_count(); ++j) {
      const auto& method = *file.service(i)->method(j);
      const std::string path = absl::StrCat("/", file.service(i)->full_name(), "/", method.name());
      const std::string nonsense = "\xff";
      std::string response;
      const grpc::Status status = RawCall(server_.channel(), path, nonsense, response);
      // gRPC has other answers for what nobody serves.
      if (status.error_code() != grpc::StatusCode::INVALID_ARGUMENT) continue;
      ++served;
      EXPECT_EQ(Of(method.name()).started, 1u) << path;
      EXPECT_THAT(EndsOf(method.name()), ElementsAre(Pair("InvalidArgument", 1))) << path;
      EXPECT_EQ(Observed(Of(method.name())), 1u) << path;
    }
  }
  EXPECT_GE(served, 14);
}

TEST_F(CallCountsTest, CallThatIsAnsweredIsOkAndItsTimeIsMeasured) {
  pb::AcquireResponse acquired;
  ASSERT_TRUE(stub_->Acquire(NewContext().get(), RequestFor("k"), &acquired).ok());
  pb::RenewRequest renew;
  renew.add_lease_ids(acquired.lease().lease_id());
  pb::RenewResponse renewed;
  ASSERT_TRUE(stub_->Renew(NewContext().get(), renew, &renewed).ok());
  pb::ReleaseRequest release;
  release.set_lease_id(acquired.lease().lease_id());
  pb::ReleaseResponse released;
  ASSERT_TRUE(stub_->Release(NewContext().get(), release, &released).ok());

  for (const char* method : {"Acquire", "Renew", "Release"}) {
    EXPECT_THAT(EndsOf(method), ElementsAre(Pair("OK", 1))) << method;
    EXPECT_GT(Of(method).handling.sum, 0) << method;
  }
}

TEST_F(CallCountsTest, CallThatWaitsHasBegunAndIsCancelledOnce) {
  pb::AcquireResponse acquired;
  ASSERT_TRUE(stub_->Acquire(NewContext().get(), RequestFor("k"), &acquired).ok());
  auto context = NewContext();
  std::thread waiting([&] {
    pb::AcquireResponse response;
    const grpc::Status status = stub_->Acquire(context.get(), RequestFor("k"), &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  });
  ASSERT_TRUE(Await([&] { return server_.Stats().waiters == 1; }));
  EXPECT_EQ(Of("Acquire").started, 2u);
  EXPECT_THAT(EndsOf("Acquire"), ElementsAre(Pair("OK", 1)));

  context->TryCancel();
  waiting.join();

  EXPECT_TRUE(Await([&] { return EndsOf("Acquire").size() == 2; }));
  EXPECT_THAT(EndsOf("Acquire"), ElementsAre(Pair("Cancelled", 1), Pair("OK", 1)));
}

TEST_F(CallCountsTest, StreamIsOpenUntilItIsCancelled) {
  auto context = NewContext();
  const auto stream = stub_->Subscribe(context.get(), pb::SubscribeRequest());
  ASSERT_TRUE(Await([&] { return Of("Subscribe").started == 1; }));
  EXPECT_THAT(EndsOf("Subscribe"), IsEmpty());

  context->TryCancel();
  pb::SubscribeResponse response;
  while (stream->Read(&response)) {
  }

  EXPECT_TRUE(Await([&] { return !EndsOf("Subscribe").empty(); }));
  EXPECT_THAT(EndsOf("Subscribe"), ElementsAre(Pair("Cancelled", 1)));
}

TEST_F(CallCountsTest, AfterAStormWithDeadlinesAsManyHaveEndedAsBegan) {
  std::vector<std::thread> threads;
  std::atomic<uint64_t> calls = 0;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 200; ++i) {
        pb::AcquireResponse acquired;
        const auto deadline = std::chrono::milliseconds(1 + (i + thread) % 20);
        ++calls;
        const std::string key = absl::StrCat("k", i % 3);
        if (!stub_->Acquire(NewContext(deadline).get(), RequestFor(key), &acquired).ok()) continue;
        pb::ReleaseRequest release;
        release.set_lease_id(acquired.lease().lease_id());
        pb::ReleaseResponse released;
        stub_->Release(NewContext().get(), release, &released);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  const auto ended = [&] {
    uint64_t count = 0;
    for (const auto& [code, ends] : EndsOf("Acquire")) count += ends;
    return count;
  };
  ASSERT_TRUE(Await([&] { return ended() == Of("Acquire").started; }));
  // A call whose deadline passed on the way may not have arrived.
  EXPECT_LE(Of("Acquire").started, calls);
  EXPECT_EQ(Observed(Of("Acquire")), ended());
}

}  // namespace
}  // namespace broker
