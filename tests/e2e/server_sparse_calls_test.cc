// That a call which comes after a quiet second is answered at once.
#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/broker_process.h"
#include "tests/support/broker_server.h"
#include "tests/support/rpc_errors.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

// The trap shows only on a broker that nobody calls for a second, so the calls of one are at least
// that far apart, and 200 of them need many brokers side by side.
constexpr int kBrokers = 20;
constexpr int kCallsEach = 10;
constexpr std::chrono::milliseconds kShortestPause(1050);
constexpr std::chrono::milliseconds kLongestPause(1500);

// How long each of the calls took, in ms, ascending.
std::vector<double> SparseCalls(const std::vector<std::unique_ptr<BrokerProcess>>& brokers) {
  std::mutex mu;
  std::vector<double> took;
  std::vector<std::thread> callers;
  for (size_t i = 0; i < brokers.size(); ++i) {
    callers.emplace_back([&, i] {
      auto stub = pb::SessionBrokerService::NewStub(
          grpc::CreateChannel(brokers[i]->address(), grpc::InsecureChannelCredentials()));
      for (int call = -1; call < kCallsEach; ++call) {
        const auto spread = (kLongestPause - kShortestPause) * ((i * 7 + call + 1) % 10) / 10;
        std::this_thread::sleep_for(kShortestPause + spread);
        pb::GetSessionRequest request;
        request.set_key("absent");
        pb::GetSessionResponse response;
        auto context = NewContext();
        const auto start = std::chrono::steady_clock::now();
        const grpc::Status status = stub->GetSession(context.get(), request, &response);
        const std::chrono::duration<double, std::milli> length =
            std::chrono::steady_clock::now() - start;
        EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND) << ToText(status);
        if (call < 0) continue;  // That one had to connect.
        std::lock_guard<std::mutex> lock(mu);
        took.push_back(length.count());
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  std::sort(took.begin(), took.end());
  return took;
}

TEST(SparseCallsTest, TwoHundredHaveAP99BelowTenMilliseconds) {
  std::vector<std::unique_ptr<BrokerProcess>> brokers;
  for (int i = 0; i < kBrokers; ++i) {
    brokers.push_back(std::make_unique<BrokerProcess>());
    ASSERT_NE(brokers.back()->address(), "") << brokers.back()->process().Errors();
  }

  // With event threads that fall asleep every attempt has a p99 of 80 ms or more; on a machine that
  // is busy with something else one attempt may have too.
  double p99 = 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const std::vector<double> took = SparseCalls(brokers);
    ASSERT_EQ(took.size(), static_cast<size_t>(kBrokers * kCallsEach));
    p99 = took[took.size() * 99 / 100];
    std::cout << "p50 " << took[took.size() / 2] << " ms, p99 " << p99 << " ms, worst "
              << took.back() << " ms\n";
    if (p99 < 10) break;
  }
  EXPECT_LT(p99, 10);
}

}  // namespace
}  // namespace broker
