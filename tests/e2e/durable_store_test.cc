// What the store being slow, or failing, means to those who call.
#include <chrono>
#include <future>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/durable_server.h"
#include "tests/support/health_client.h"
#include "tests/support/subscriber.h"

namespace broker {
namespace {

using std::chrono::milliseconds;

class DurableStoreTest : public ::testing::Test {
 protected:
  // A call under way, on a thread of the test.
  template <typename Call>
  static auto Begin(Call call) {
    return std::async(std::launch::async, std::move(call));
  }
  template <typename T>
  static bool Answered(const std::future<T>& call) {
    return call.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }
  bool AwaitHeld(size_t count) {
    return Await([&] { return server_.disk().held() == count; });
  }

  DurableServer server_;
  SessionCalls& calls_ = server_.calls();
};

// A06, D04
TEST_F(DurableStoreTest, CallsWaitForTheDiskAndHoldUpNobodyElse) {
  const std::string held = calls_.Hold({.key = "held"});
  calls_.MakeIdle({.key = "idle"});
  const std::string starting = calls_.Acquire({.key = "starting"})->lease().lease_id();
  server_.disk().Hold(true);
  auto activate = Begin([&] { return calls_.Activate(starting, "state"); });
  ASSERT_TRUE(AwaitHeld(1));
  auto checkpoint = Begin([&] { return calls_.Checkpoint(held, "state"); });
  ASSERT_TRUE(AwaitHeld(2));
  auto suspend = Begin([&] { return calls_.Suspend("idle"); });
  ASSERT_TRUE(AwaitHeld(3));

  // All that needs no disk goes on, on the same two threads.
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(calls_.Renew(held), pb::LEASE_STATUS_HELD);
    EXPECT_TRUE(calls_.Acquire({.key = "held"}).ok());
    EXPECT_EQ(calls_.Session("idle").state(), pb::SESSION_STATE_SUSPENDING);
  }
  EXPECT_EQ(calls_.Usage().suspending(), 1u);
  EXPECT_FALSE(Answered(activate));
  EXPECT_FALSE(Answered(checkpoint));
  EXPECT_FALSE(Answered(suspend));
  server_.disk().Hold(false);

  EXPECT_EQ(activate.get()->session().checkpoint_bytes(), 5u);
  EXPECT_TRUE(checkpoint.get().ok());
  EXPECT_EQ(suspend.get()->session().state(), pb::SESSION_STATE_SUSPENDED);
}

// A11
TEST_F(DurableStoreTest, AcquireWaitsForASuspensionAndRestores) {
  calls_.MakeIdle({.key = "k"});
  server_.disk().Hold(true);
  auto suspend = Begin([&] { return calls_.Suspend("k"); });
  ASSERT_TRUE(AwaitHeld(1));
  PendingAcquire waiter(calls_, {.key = "k"});
  ASSERT_TRUE(calls_.AwaitWaiters(1));

  server_.disk().Hold(false);

  EXPECT_TRUE(suspend.get().ok());
  const AcquireReply reply = waiter.Get();
  EXPECT_TRUE(reply->must_initialize()) << ToText(reply.status);
  EXPECT_TRUE(reply->reset());
}

// The client is gone, and what it asked for is done all the same; the server is none the worse.
TEST_F(DurableStoreTest, CancelledCallIsStillWritten) {
  const std::string lease = calls_.Hold({.key = "k"});
  server_.disk().Hold(true);
  pb::CheckpointRequest request;
  request.set_lease_id(lease);
  request.set_data("state");
  auto context = NewContext();
  auto call = Begin([&] {
    pb::CheckpointResponse response;
    return calls_.stub().Checkpoint(context.get(), request, &response);
  });
  ASSERT_TRUE(AwaitHeld(1));

  context->TryCancel();
  EXPECT_EQ(call.get().error_code(), grpc::StatusCode::CANCELLED);
  server_.disk().Hold(false);

  EXPECT_TRUE(Await([&] { return calls_.Session("k").checkpoint_bytes() == 5; }));
}

// D07
TEST_F(DurableStoreTest, WhatCannotBeWrittenHasNotHappenedUntilTheDiskHeals) {
  calls_.MakeIdle({.key = "idle"});
  const std::string held = calls_.Hold({.key = "held"});
  const std::string starting = calls_.Acquire({.key = "starting"})->lease().lease_id();
  Subscriber watcher(server_.server().NewChannel(), LifecycleEvents());
  ASSERT_TRUE(watcher.AwaitSynced());
  server_.disk().FailWrites(true);

  const auto suspend = calls_.Suspend("idle");
  EXPECT_EQ(suspend.code(), grpc::StatusCode::UNAVAILABLE) << ToText(suspend.status);
  EXPECT_EQ(suspend.reason(), "STORE_UNAVAILABLE");
  EXPECT_EQ(calls_.Checkpoint(held, "state").reason(), "STORE_UNAVAILABLE");
  EXPECT_EQ(calls_.ReleaseWith(held, "state").reason(), "STORE_UNAVAILABLE");
  EXPECT_EQ(calls_.Release(held, pb::DISPOSITION_DISCARD).reason(), "STORE_UNAVAILABLE");
  EXPECT_EQ(calls_.Activate(starting).reason(), "STORE_UNAVAILABLE");
  EXPECT_EQ(calls_.End("held").reason(), "STORE_UNAVAILABLE");
  EXPECT_EQ(calls_.Session("idle").state(), pb::SESSION_STATE_ACTIVE);
  EXPECT_EQ(calls_.Session("held").pins(), 1u);
  EXPECT_EQ(calls_.Session("starting").state(), pb::SESSION_STATE_INITIALIZING);
  ASSERT_TRUE(watcher.AwaitEvents(2));
  EXPECT_EQ(watcher.events()[0].type(), pb::EVENT_TYPE_SUSPENDING);
  EXPECT_EQ(watcher.events()[1].type(), pb::EVENT_TYPE_SUSPEND_ABORTED);
  server_.disk().FailWrites(false);

  EXPECT_TRUE(calls_.Suspend("idle").ok());
  EXPECT_TRUE(calls_.Activate(starting).ok());
  EXPECT_TRUE(calls_.ReleaseWith(held, "state")->released());
  EXPECT_TRUE(calls_.End("held")->ended());
}

TEST_F(DurableStoreTest, NamespacesAreChangedWhenThatIsDurableAndOtherwiseNot) {  // C11
  calls_.Configure(ConfigOf(5));
  server_.disk().FailWrites(true);
  pb::UpdateNamespaceRequest update;
  update.set_name("default");
  update.mutable_config()->set_max_sessions(6);
  pb::UpdateNamespaceResponse updated;

  const grpc::Status failed = calls_.admin().UpdateNamespace(NewContext().get(), update, &updated);
  pb::DeleteNamespaceRequest remove;
  remove.set_name("default");
  pb::DeleteNamespaceResponse removed;
  const grpc::Status kept = calls_.admin().DeleteNamespace(NewContext().get(), remove, &removed);

  EXPECT_EQ(DetailsOf(failed).reason, "STORE_UNAVAILABLE") << ToText(failed);
  EXPECT_EQ(DetailsOf(kept).reason, "STORE_UNAVAILABLE") << ToText(kept);
  EXPECT_EQ(calls_.Namespace().config().max_sessions(), 5u);
  server_.disk().FailWrites(false);
  EXPECT_TRUE(calls_.admin().UpdateNamespace(NewContext().get(), update, &updated).ok());
  EXPECT_EQ(updated.namespace_().config().max_sessions(), 6u);
  EXPECT_TRUE(calls_.admin().DeleteNamespace(NewContext().get(), remove, &removed).ok());
}

TEST_F(DurableStoreTest, HealthOfTheStoreIsApartFromThatOfTheWhole) {
  HealthWatch store(server_.server().channel(), "store");
  ASSERT_EQ(store.Next(), kHealthServing);

  server_.disk().FailWrites(true);
  EXPECT_EQ(store.Next(), kHealthNotServing);
  EXPECT_EQ(CheckHealth(server_.server().channel(), "").serving, kHealthServing);
  server_.disk().FailWrites(false);
  EXPECT_EQ(store.Next(), kHealthServing);

  BrokerServer memory;
  EXPECT_EQ(CheckHealth(memory.channel(), "store").status.error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(DurableStoreTest, LogTellsOfTheStoresTroubleAndOfItsEnd) {
  HealthWatch store(server_.server().channel(), "store");
  ASSERT_EQ(store.Next(), kHealthServing);
  testing::internal::CaptureStderr();

  server_.disk().FailWrites(true);
  EXPECT_EQ(store.Next(), kHealthNotServing);
  server_.disk().FailWrites(false);
  EXPECT_EQ(store.Next(), kHealthServing);

  const std::string log = testing::internal::GetCapturedStderr();
  const size_t trouble = log.find(" error \"the store cannot be written");
  EXPECT_NE(trouble, std::string::npos) << log;
  EXPECT_GT(log.find(" info \"the store can be written again\" failures_full="), trouble) << log;
}

// H02: a call that waits for the disk is answered before the server goes.
TEST_F(DurableStoreTest, ShutdownWaitsForWhatIsBeingWritten) {
  const std::string lease = calls_.Hold({.key = "k"});
  // No more connections are taken during a shutdown, and calls on a Pipeline have one of their own.
  const auto health = [&] { return CheckHealth(server_.server().channel(), "").status; };
  ASSERT_TRUE(health().ok());
  server_.disk().Hold(true);
  auto checkpoint = Begin([&] { return calls_.Checkpoint(lease, "state"); });
  ASSERT_TRUE(AwaitHeld(1));
  auto shutdown = Begin([&] { server_.server().server().Shutdown(std::chrono::seconds(10)); });
  ASSERT_TRUE(health().ok());

  server_.disk().Hold(false);

  const auto reply = checkpoint.get();
  EXPECT_TRUE(reply.ok()) << ToText(reply.status);
  shutdown.get();
}

}  // namespace
}  // namespace broker
