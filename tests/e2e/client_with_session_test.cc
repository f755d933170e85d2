// WithSession, against a broker that makes trouble.

#include <stdexcept>
#include <string>
#include <utility>

#include "client/cpp/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_broker_service.h"

namespace sessionbroker {
namespace {

using ::broker::FakeBrokerService;
using ::broker::MakeBrokerError;
using ::std::chrono::seconds;

class WithSessionTest : public testing::Test {
 protected:
  absl::StatusOr<std::string> Unexpected(PinnedSession&) {
    ADD_FAILURE() << "initialize was not to be called";
    return "";
  }

  FakeBrokerService fake_;
  Client client_{fake_.endpoint(), {.holder = "tester", .call_timeout = seconds(5)}};
};

TEST_F(WithSessionTest, InitializesUsesAndReleases) {
  std::string order;
  const absl::Status status = client_.WithSession(
      "a",
      [&](PinnedSession& pin) -> absl::StatusOr<std::string> {
        EXPECT_TRUE(pin.must_initialize());
        order += "i";
        return "10.0.0.7:1";
      },
      [&](PinnedSession& pin) {
        EXPECT_FALSE(pin.must_initialize());
        EXPECT_EQ(pin.endpoint(), "10.0.0.7:1");
        EXPECT_EQ(fake_.activations().at(0).activated().endpoint(), "10.0.0.7:1");
        EXPECT_EQ(fake_.calls("Release"), 0);
        order += "u";
        return absl::DataLossError("what use says");
      });

  EXPECT_EQ(status, absl::DataLossError("what use says"));
  EXPECT_EQ(order, "iu");
  EXPECT_EQ(fake_.calls("Release"), 1);
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(WithSessionTest, DoesNotInitializeWhatIsThere) {
  auto start = [](PinnedSession&) -> absl::StatusOr<std::string> { return "10.0.0.7:1"; };
  auto nothing = [](PinnedSession&) { return absl::OkStatus(); };
  ASSERT_TRUE(client_.WithSession("a", start, nothing).ok());

  const absl::Status status = client_.WithSession(
      "a", [&](PinnedSession& pin) { return Unexpected(pin); },
      [&](PinnedSession& pin) {
        EXPECT_EQ(pin.endpoint(), "10.0.0.7:1");
        return absl::OkStatus();
      });

  EXPECT_EQ(status, absl::OkStatus());
}

TEST_F(WithSessionTest, TellsWhyInitializeFailed) {
  const absl::Status status = client_.WithSession(
      "a",
      [](PinnedSession&) -> absl::StatusOr<std::string> { return absl::DataLossError("no disk"); },
      [](PinnedSession&) {
        ADD_FAILURE() << "use was not to be called";
        return absl::OkStatus();
      });

  EXPECT_EQ(status, absl::DataLossError("no disk"));
  EXPECT_EQ(fake_.activations().at(0).failure().message(), "no disk");
  EXPECT_EQ(fake_.calls("Release"), 0);
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(WithSessionTest, UsesNothingThatCouldNotBeActivated) {
  fake_.FailNext("Activate", MakeBrokerError({.code = grpc::StatusCode::FAILED_PRECONDITION,
                                              .message = "not yours",
                                              .reason = "NOT_INITIALIZER"}));

  const absl::Status status = client_.WithSession(
      "a", [](PinnedSession&) -> absl::StatusOr<std::string> { return "10.0.0.7:1"; },
      [](PinnedSession&) {
        ADD_FAILURE() << "use was not to be called";
        return absl::OkStatus();
      });

  EXPECT_EQ(GetErrorDetails(status).reason, "NOT_INITIALIZER");
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(WithSessionTest, LetsUseDiscard) {
  auto start = [](PinnedSession&) -> absl::StatusOr<std::string> { return ""; };

  const absl::Status status = client_.WithSession(
      "a", start, [](PinnedSession& pin) { return pin.Release(v1::DISPOSITION_DISCARD); });

  EXPECT_EQ(status, absl::OkStatus());
  ASSERT_EQ(fake_.calls("Release"), 1);
  EXPECT_EQ(fake_.releases().at(0).disposition(), v1::DISPOSITION_DISCARD);
}

TEST_F(WithSessionTest, ReleasesWhenUseThrows) {
  auto start = [](PinnedSession&) -> absl::StatusOr<std::string> { return ""; };

  EXPECT_THROW(client_
                   .WithSession("a", start,
                                [](PinnedSession&) -> absl::Status {
                                  throw std::runtime_error("thrown by use");
                                })
                   .IgnoreError(),
               std::runtime_error);

  EXPECT_EQ(fake_.held_leases(), 0);
}

}  // namespace
}  // namespace sessionbroker
