#include "server/base/periodic_thread.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "gtest/gtest.h"
#include "server/base/mutex.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

// Longer than any test lives: such a thread runs only when it is woken.
constexpr Duration kNever = std::chrono::hours(24 * 365 * 200);

// A number that only grows, for one thread to raise and another to wait on.
class Progress {
 public:
  void RaiseTo(int value) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    value_ = value;
    changed_.NotifyAll();
  }

  void Increment() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    ++value_;
    changed_.NotifyAll();
  }

  // False if it has not come that far within ten seconds.
  bool WaitFor(int value) ABSL_LOCKS_EXCLUDED(mu_) {
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    MutexLock lock(mu_);
    while (value_ < value && std::chrono::steady_clock::now() < deadline) {
      changed_.WaitFor(mu_, 100ms);
    }
    return value_ >= value;
  }

  int value() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return value_;
  }

 private:
  mutable Mutex mu_;
  CondVar changed_;
  int value_ ABSL_GUARDED_BY(mu_) = 0;
};

TEST(PeriodicThreadTest, RunsAgainAndAgainWithoutBeingWoken) {
  Progress runs;
  PeriodicThread thread("test", 1ms, [&] { runs.Increment(); });

  EXPECT_TRUE(runs.WaitFor(5));
}

TEST(PeriodicThreadTest, WaitsAPeriodAfterEachRun) {
  Progress runs;
  const auto start = std::chrono::steady_clock::now();
  PeriodicThread thread("test", 20ms, [&] { runs.Increment(); });

  ASSERT_TRUE(runs.WaitFor(3));

  EXPECT_GE(std::chrono::steady_clock::now() - start, 60ms);
}

TEST(PeriodicThreadTest, EndsInTheMiddleOfItsPeriodWithoutARun) {
  Progress runs;
  {
    PeriodicThread thread("test", kNever, [&] { runs.Increment(); });
  }

  EXPECT_EQ(runs.value(), 0);
}

TEST(PeriodicThreadTest, WakeBringsARunBeforeThePeriodIsOver) {
  Progress runs;
  PeriodicThread thread("test", kNever, [&] { runs.Increment(); });

  thread.Wake();

  EXPECT_TRUE(runs.WaitFor(1));
}

TEST(PeriodicThreadTest, EachWakeBringsOneRunOnly) {
  Progress runs;
  {
    PeriodicThread thread("test", kNever, [&] { runs.Increment(); });
    for (int i = 1; i <= 100; ++i) {
      thread.Wake();
      ASSERT_TRUE(runs.WaitFor(i));
    }
  }

  EXPECT_EQ(runs.value(), 100);
}

TEST(PeriodicThreadTest, WakeDuringARunBringsAnotherOne) {
  Progress begun, allowed;
  PeriodicThread thread("test", kNever, [&] {
    begun.Increment();
    allowed.WaitFor(1);
  });
  thread.Wake();
  ASSERT_TRUE(begun.WaitFor(1));

  thread.Wake();
  allowed.RaiseTo(1);

  EXPECT_TRUE(begun.WaitFor(2));
}

TEST(PeriodicThreadTest, WhatWasDoneBeforeAWakeIsAlwaysSeenByARun) {
  Progress todo, done;
  PeriodicThread thread("test", kNever, [&] { done.RaiseTo(todo.value()); });

  // Each wake comes while the run for the one before is ending, just over, or long over.
  for (int i = 1; i <= 5000; ++i) {
    todo.RaiseTo(i);
    thread.Wake();
    ASSERT_TRUE(done.WaitFor(i)) << "the wake for " << i << " was lost";
  }
}

TEST(PeriodicThreadTest, DestructorWaitsForTheRunUnderWay) {
  Progress begun, allowed;
  std::atomic<bool> run_is_over = false;
  auto thread = std::make_unique<PeriodicThread>("test", kNever, [&] {
    begun.RaiseTo(1);
    allowed.WaitFor(1);
    run_is_over = true;
  });
  thread->Wake();
  ASSERT_TRUE(begun.WaitFor(1));

  std::thread opener([&] { allowed.RaiseTo(1); });
  thread.reset();

  EXPECT_TRUE(run_is_over);
  opener.join();
}

TEST(PeriodicThreadTest, ThreadIsNamedAndALongNameIsCut) {
  std::string name;
  Progress runs;
  PeriodicThread thread("reaper-of-the-broker", kNever, [&] {
    char buffer[16];
    pthread_getname_np(pthread_self(), buffer, sizeof(buffer));
    name = buffer;
    runs.Increment();
  });

  thread.Wake();

  ASSERT_TRUE(runs.WaitFor(1));
  EXPECT_EQ(name, "reaper-of-the-b");
}

}  // namespace
}  // namespace broker
