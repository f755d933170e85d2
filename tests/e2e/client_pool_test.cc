// Thousands of pins of one process, held over the real broker.

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/client_interceptor.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/await.h"
#include "tests/support/broker_process.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::broker::BrokerProcess;
using ::std::chrono::seconds;

constexpr int kPins = 5000;

// What went out over a channel in renewals.
struct RenewCount {
  std::atomic<int> requests = 0;
  std::atomic<int> leases = 0;
  std::atomic<int> largest = 0;
};

class RenewCounter final : public grpc::experimental::Interceptor {
 public:
  RenewCounter(RenewCount& count, bool is_renew) : count_(count), is_renew_(is_renew) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using Point = grpc::experimental::InterceptionHookPoints;
    if (is_renew_ && methods->QueryInterceptionHookPoint(Point::PRE_SEND_MESSAGE)) {
      grpc::ByteBuffer bytes = *methods->GetSerializedSendMessage();
      v1::RenewRequest request;
      const bool read =
          grpc::SerializationTraits<v1::RenewRequest>::Deserialize(&bytes, &request).ok();
      EXPECT_TRUE(read);
      const int leases = request.lease_ids_size();
      ++count_.requests;
      count_.leases += leases;
      if (leases > count_.largest) count_.largest = leases;  // One thread sends them all.
    }
    methods->Proceed();
  }

 private:
  RenewCount& count_;
  const bool is_renew_;
};

class RenewCounterFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit RenewCounterFactory(RenewCount& count) : count_(count) {}

  grpc::experimental::Interceptor* CreateClientInterceptor(
      grpc::experimental::ClientRpcInfo* info) override {
    const bool is_renew = std::string(info->method()).find("/Renew") != std::string::npos;
    return new RenewCounter(count_, is_renew);
  }

 private:
  RenewCount& count_;
};

std::shared_ptr<grpc::Channel> CountingChannel(const std::string& endpoint, RenewCount& count) {
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> factories;
  factories.push_back(std::make_unique<RenewCounterFactory>(count));
  return grpc::experimental::CreateCustomChannelWithInterceptors(
      endpoint, grpc::InsecureChannelCredentials(), grpc::ChannelArguments(), std::move(factories));
}

int Threads() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int threads = 0;
    if (word == "Threads:" && status >> threads) return threads;
  }
  return -1;
}

class ClientPoolTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(broker_.address(), "");
    v1::UpdateNamespaceRequest request;
    request.set_name("default");
    request.mutable_config()->set_max_sessions(kPins);
    ASSERT_TRUE(client_.stub().UpdateNamespace(request, DeadlineIn(seconds(10))).ok());
  }

  PinnedSession MustAcquire(const std::string& key) {
    absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = key, .lease_ttl = seconds(9)});
    EXPECT_TRUE(pin.ok()) << pin.status();
    return pin.ok() ? *std::move(pin) : PinnedSession();
  }

  uint32_t Leases() {
    v1::GetNamespaceRequest request;
    request.set_name("default");
    const auto response = client_.stub().GetNamespace(request, DeadlineIn(seconds(10)));
    return response.ok() ? response->namespace_().usage().leases() : 0;
  }

  RenewCount renewals_;
  BrokerProcess broker_{{"--memory"}};
  Client client_{CountingChannel(broker_.address(), renewals_)};
};

TEST_F(ClientPoolTest, OneThreadRenewsThousandsOfPinsInFewRequests) {
  std::vector<PinnedSession> pins;
  pins.push_back(MustAcquire("0"));
  ASSERT_TRUE(Await([&] { return renewals_.requests > 0; }));
  const int threads = Threads();

  while (pins.size() < kPins) pins.push_back(MustAcquire(absl::StrCat(pins.size())));
  // Each has been renewed three times and more, on the average.
  const int before = renewals_.requests;
  const int leases_before = renewals_.leases;
  ASSERT_TRUE(
      Await([&] { return renewals_.leases - leases_before > 3 * kPins; }, std::chrono::minutes(2)));

  const int requests = renewals_.requests - before;
  EXPECT_LE(requests, 3 * kPins / 200);  // 15 if all of them went in full ones.
  EXPECT_LE(renewals_.largest, 1000);
  EXPECT_LE(Threads(), threads + 2);  // gRPC has timer threads, a few, which come and go.
  EXPECT_EQ(Leases(), static_cast<uint32_t>(kPins));
  for (const PinnedSession& pin : pins) EXPECT_FALSE(pin.lost()) << pin.key();
}

}  // namespace
}  // namespace sessionbroker
