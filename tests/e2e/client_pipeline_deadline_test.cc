// Deadlines while nothing comes.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "client/cpp/pipeline_messages.h"
#include "tests/e2e/client_pipeline_test.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::std::chrono::milliseconds;
using ::std::chrono::seconds;

// The kernel accepts connections to it, and nobody ever says anything on them.
class SilentPort {
 public:
  SilentPort() {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* any = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(fd_, any, length), 0);
    EXPECT_EQ(listen(fd_, 16), 0);
    EXPECT_EQ(getsockname(fd_, any, &length), 0);
    port_ = ntohs(address.sin_port);
  }
  ~SilentPort() { close(fd_); }
  SilentPort(const SilentPort&) = delete;
  SilentPort& operator=(const SilentPort&) = delete;

  std::string endpoint() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  const int fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int port_ = 0;
};

// Sends `thread` a signal that does nothing, several times a second and for some seconds.
std::jthread Disturb(pthread_t thread) {
  struct sigaction nothing = {};
  nothing.sa_handler = [](int) {};
  EXPECT_EQ(sigaction(SIGUSR1, &nothing, nullptr), 0);
  return std::jthread([thread](const std::stop_token& stop) {
    std::mutex mu;
    std::unique_lock<std::mutex> lock(mu);
    std::condition_variable_any stopped;
    for (int i = 0; i < 30 && !stop.stop_requested(); ++i) {
      pthread_kill(thread, SIGUSR1);
      stopped.wait_for(lock, stop, milliseconds(150), [] { return false; });
    }
  });
}

// Not with the fake broker in the process: its threads would poll in place of the caller.
TEST(PipelineDeadlineTest, SignalsDoNotPutItOff) {
  const SilentPort port;
  BrokerStub stub(MakeChannel(port.endpoint()), RetryPolicy(), /*seed=*/7);
  const std::jthread signals = Disturb(pthread_self());
  const TimePoint start = SteadyClock::now();

  const absl::Status status = stub.Renew(v1::RenewRequest(), start + milliseconds(400)).status();

  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_LE(SteadyClock::now() - start, seconds(2));
}

// A broker that takes calls and answers none, as behind a proxy that keeps the connection alive.
class PipelineSilenceTest : public PipelineTest {
 protected:
  PipelineSilenceTest() {
    SetCall(RenewOf("none"), renew_);
    SetCall(ReleaseOf("none"), release_);
    fake_.IgnoreCancels();  // Which it would answer.
    fake_.Stall("Renew");
  }
  PipelineOutcome::Kind Renew() {
    return pipeline_.Call(renew_, DeadlineIn(milliseconds(50)), false).kind;
  }

  static constexpr Duration kLongestSilence = milliseconds(300);
  Pipeline pipeline_{MakeChannel(fake_.endpoint()), kLongestSilence};
  v1::PipelineCall renew_;
  v1::PipelineCall release_;
};

TEST_F(PipelineSilenceTest, AStreamThatIsSilentForTooLongIsReplaced) {
  EXPECT_EQ(pipeline_.Call(release_, Soon(), false).kind, PipelineOutcome::Kind::kAnswered);
  const TimePoint start = SteadyClock::now();

  EXPECT_TRUE(Await([&] {
    EXPECT_EQ(Renew(), PipelineOutcome::Kind::kFailed);
    return fake_.calls("Pipeline") == 2;
  }));

  EXPECT_GE(SteadyClock::now() - start, kLongestSilence);
  fake_.Unstall("Renew");
  EXPECT_EQ(pipeline_.Call(renew_, Soon(), false).kind, PipelineOutcome::Kind::kAnswered);
  EXPECT_EQ(fake_.calls("Pipeline"), 2);
}

TEST_F(PipelineSilenceTest, WhereNoStreamEverSaysAnythingCallsAreUnary) {
  EXPECT_TRUE(Await([&] { return Renew() == PipelineOutcome::Kind::kUnary; }));

  EXPECT_EQ(fake_.calls("Pipeline"), 3);
}

TEST_F(PipelineSilenceTest, AStreamThatAnswersOtherCallsIsKept) {
  const TimePoint start = SteadyClock::now();
  while (SteadyClock::now() - start < 3 * kLongestSilence) {
    EXPECT_EQ(Renew(), PipelineOutcome::Kind::kFailed);
    EXPECT_EQ(pipeline_.Call(release_, Soon(), false).kind, PipelineOutcome::Kind::kAnswered);
  }

  EXPECT_EQ(fake_.calls("Pipeline"), 1);
}

}  // namespace
}  // namespace sessionbroker
