// Leases that are given back because their callers never got to see them.

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class UndoTest : public TableTest {
 protected:
  void Undo(const AcquireCall& call) { table().UndoAcquire(call.lease(), now_); }
  WallTime LastActive() { return Get("a").last_active_time; }
};

TEST_F(UndoTest, UndoneAcquireGivesItsPinBack) {  // A12
  Create("a");
  const AcquireCall call = Acquire("a");

  Undo(call);

  EXPECT_EQ(Get("a").pins, 1u);
  EXPECT_FALSE(Release(call.lease()));
}

TEST_F(UndoTest, UndoneAcquireRestoresTheIdleClock) {  // A12 B06
  CreateIdle("a");
  const WallTime before = Get("a").last_active_time;
  Advance(1min);

  const AcquireCall call = Acquire("a");
  Undo(call);

  EXPECT_EQ(Get("a").last_active_time, before);
}

TEST_F(UndoTest, UndoneAcquireRestoresThePlaceAmongTheIdle) {  // A12 B06
  options_.shard_count = 1;  // One idle order, in which it is put back.
  config_.max_sessions = 2;
  CreateIdle("old");
  Advance(1s);
  CreateIdle("new");
  Advance(1s);

  const AcquireCall call = Acquire("old");
  Undo(call);
  AcquireNow("c");

  EXPECT_EQ(Keys(), (std::vector<std::string>{"c", "new"}));
}

TEST_F(UndoTest, UndoneAcquireDoesNotTakeBackWhatOthersHaveUsedSince) {  // A12 B06
  CreateIdle("a");
  Advance(1min);
  const AcquireCall undone = Acquire("a");
  Advance(1min);
  const AcquireCall genuine = Acquire("a");
  Release(genuine.lease());
  const WallTime used = now_.wall;
  Advance(1min);

  Undo(undone);

  EXPECT_EQ(Get("a").last_active_time, used);
}

TEST_F(UndoTest, UndoneExclusiveAcquireServesTheNext) {  // A12
  CreateIdle("a");
  const AcquireCall exclusive = AcquireExclusive("a");
  const AcquireCall next = AcquireExclusive("a");

  Undo(exclusive);

  EXPECT_TRUE(next.granted());
}

TEST_F(UndoTest, UndoOfAnUnknownLeaseDoesNothing) {
  Create("a");
  table().UndoAcquire({.namespace_id = 7, .shard = 0, .slot = 99, .sequence = 1}, now_);
  table().UndoAcquire({.namespace_id = 8}, now_);
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(UndoTest, UseAtTheSameInstantIsNotTakenBack) {  // A12 B06
  CreateIdle("a");
  Advance(5s);
  const AcquireCall undone = Acquire("a");
  Release(Acquire("a").lease());

  Undo(undone);

  EXPECT_EQ(LastActive(), now_.wall);
}

TEST_F(UndoTest, LeaseThatIsStillHeldIsAUseThoughItCameAtTheSameInstant) {  // A12 B06
  CreateIdle("a");
  Advance(5s);
  const AcquireCall undone = Acquire("a");
  Acquire("a");

  Undo(undone);

  EXPECT_EQ(LastActive(), now_.wall);
}

TEST_F(UndoTest, ActivationAtTheSameInstantIsNotTakenBack) {  // A12 B06
  const WallTime before = now_.wall;
  Advance(5s);
  const AcquireCall initializer = Acquire("a");
  Activate(initializer.lease());

  Undo(initializer);

  EXPECT_GT(LastActive(), before);
}

TEST_F(UndoTest, AllOfSeveralThatWereUndoneRestoreTheIdleClockInWhateverOrder) {  // A12 B06
  for (const std::vector<int>& order :
       {std::vector<int>{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}) {
    for (const Duration between : {Duration::zero(), Duration(5s)}) {
      CreateIdle("a");
      const WallTime before = now_.wall;
      std::vector<AcquireCall> calls;
      for (int i = 0; i < 3; ++i) {
        Advance(between);
        calls.push_back(Acquire("a"));
      }

      for (int i : order) Undo(calls[i]);

      EXPECT_EQ(LastActive(), before) << order[0] << order[1] << order[2];
      End("a");
    }
  }
}

TEST_F(UndoTest, OneThatWasNotUndoneIsAUseInWhateverOrderTheOthersAre) {  // A12 B06
  CreateIdle("a");
  Advance(5s);
  const AcquireCall first = Acquire("a");
  Advance(5s);
  Acquire("a");
  const WallTime used = now_.wall;
  Advance(5s);
  const AcquireCall last = Acquire("a");

  Undo(first);
  Undo(last);

  EXPECT_EQ(LastActive(), used);
}

TEST_F(UndoTest, ReleaseBetweenTwoThatWereUndoneIsAUse) {  // A12 B06
  CreateIdle("a");
  Advance(5s);
  const AcquireCall first = Acquire("a");
  Release(Acquire("a").lease());
  const WallTime used = now_.wall;
  Advance(5s);
  const AcquireCall last = Acquire("a");

  Undo(first);
  Undo(last);

  EXPECT_EQ(LastActive(), used);
}

// Gives its lease back as soon as it is told, as a call does whose client has left.
class Leaver final : public AcquireObserver {
 public:
  Leaver(SessionTable& table, Instant now, int& told) : table_(table), now_(now), told_(told) {}
  void OnAcquired(absl::StatusOr<Acquired> outcome) override {
    ++told_;
    if (outcome.ok()) table_.UndoAcquire(outcome->lease, now_);
  }

 private:
  SessionTable& table_;
  const Instant now_;
  int& told_;
};

// Each that is undone serves the next, who is told from within what the one before was told.

class UndoCrowdTest : public UndoTest {
 protected:
  UndoCrowdTest() { config_.max_waiters = 1'000'000; }

  // So many callers that queue for "a" and leave.
  void Crowd(int size, PinMode mode) {
    AcquireParams params;
    params.key = "a";
    params.mode = mode;
    for (int i = 0; i < size; ++i) {
      const AcquireResult result =
          table().Acquire(params, std::make_shared<Leaver>(table(), now_, told_), now_);
      ASSERT_TRUE(std::holds_alternative<WaitTicket>(result));
    }
  }

  int told_ = 0;
};

TEST_F(UndoCrowdTest, AnyNumberOfWaitersForAPinThatHaveLeftNeedsNoMoreStackThanOne) {  // A12
  constexpr int kWaiters = 200'000;
  const LeaseRef held = Create("a", {.mode = PinMode::kExclusive});
  Crowd(kWaiters, PinMode::kExclusive);

  Release(held);

  EXPECT_EQ(told_, kWaiters);
  EXPECT_EQ(Get("a").pins, 0u);
}

TEST_F(UndoCrowdTest, AnyNumberOfWaitersAtAGateThatHaveLeftNeedsNoMoreStackThanOne) {  // A12 A04
  constexpr int kWaiters = 50'000;
  const AcquireCall initializer = Acquire("a");
  Crowd(kWaiters, PinMode::kShared);

  Release(initializer.lease());

  EXPECT_EQ(told_, kWaiters);
  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Stats().slots_used, 0u);
}

TEST_F(UndoCrowdTest, WhoeverStaysIsServedBehindThoseThatHaveLeft) {  // A12 A15
  const LeaseRef held = Create("a", {.mode = PinMode::kExclusive});
  Crowd(1000, PinMode::kExclusive);
  const AcquireCall stays = AcquireExclusive("a");

  Release(held);

  EXPECT_TRUE(stays.granted());
}

}  // namespace
}  // namespace broker
