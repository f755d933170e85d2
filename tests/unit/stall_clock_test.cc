#include "server/base/stall_clock.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/fake_clock.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class StallClockTest : public ::testing::Test {
 protected:
  MonotonicTime Now() const { return clock_.Now().mono; }
  // Time passes as it should: with beats.
  void Run(Duration for_how_long) {
    for (Duration passed{}; passed < for_how_long; passed += 100ms) {
      raw_.Advance(100ms);
      clock_.Tick();
    }
  }

  FakeClock raw_;
  StallClock clock_{raw_};
};

TEST_F(StallClockTest, RunsWithTheOtherClockWhileTheBeatsCome) {
  const MonotonicTime start = Now();

  Run(1h);

  EXPECT_EQ(Now(), start + 1h);
  EXPECT_EQ(clock_.total_lateness(), 0s);
  EXPECT_EQ(clock_.stalls(), 0u);
}

TEST_F(StallClockTest, BeatThatIsALittleLateIsNoStall) {
  const MonotonicTime start = Now();

  raw_.Advance(StallClock::kTolerance);
  clock_.Tick();

  EXPECT_EQ(Now(), start + StallClock::kTolerance);
  EXPECT_EQ(clock_.stalls(), 0u);
}

TEST_F(StallClockTest, StallMovesTheClockByNoMoreThanTheGrain) {  // B12
  const MonotonicTime start = Now();

  raw_.Advance(5s);  // SIGSTOP, and no beat.

  EXPECT_LE(Now(), start + StallClock::kGrain);
  EXPECT_EQ(clock_.stalls(), 1u);
  EXPECT_EQ(clock_.total_lateness(), 5s);
}

TEST_F(StallClockTest, BeatFindsAStallThatNobodyReadTheClockAfter) {  // B12
  const MonotonicTime start = Now();

  raw_.Advance(5s);
  clock_.Tick();

  EXPECT_LE(Now(), start + StallClock::kGrain);
  EXPECT_EQ(clock_.stalls(), 1u);
}

TEST_F(StallClockTest, WhatWasToldInAStallIsNotTakenBack) {
  const MonotonicTime start = Now();

  raw_.Advance(120ms);  // Late, and no stall yet.
  EXPECT_EQ(Now(), start + 120ms);
  raw_.Advance(80ms);

  EXPECT_EQ(Now(), start + 120ms);
  EXPECT_EQ(clock_.total_lateness(), 200ms);
  raw_.Advance(100ms);
  clock_.Tick();
  EXPECT_EQ(Now(), start + 120ms) << "time stands still for as long as the stall was";
}

TEST_F(StallClockTest, StallThatABeatEndsInTimeIsNone) {
  const MonotonicTime start = Now();

  raw_.Advance(120ms);
  clock_.Tick();
  raw_.Advance(120ms);

  EXPECT_EQ(Now(), start + 240ms);
  EXPECT_EQ(clock_.stalls(), 0u);
}

TEST_F(StallClockTest, OneMomentIsToldTheSameWhateverTheTwoClocksDifferBy) {
  const Instant before = clock_.Now();

  for (int i = 0; i < 10; ++i) {
    raw_.Advance(20ms);
    raw_.SetWall(raw_.Now().wall + 90ns);  // As when the one is read a little after the other.
    clock_.Tick();
    EXPECT_EQ(clock_.Now().ToWall(before.mono), before.wall);
  }
}

TEST_F(StallClockTest, StepOfTheCalendarIsSeenAtTheNextBeat) {
  raw_.SetWall(raw_.Now().wall + 1h);
  clock_.Tick();

  EXPECT_EQ(clock_.Now().wall, raw_.Now().wall);
}

TEST_F(StallClockTest, StallIsCountedOnceHoweverOftenTheClockIsRead) {
  raw_.Advance(5s);
  for (int i = 0; i < 10; ++i) Now();
  clock_.Tick();
  Now();

  EXPECT_EQ(clock_.stalls(), 1u);
}

TEST_F(StallClockTest, TimeRunsOnAfterAStall) {
  const MonotonicTime start = Now();
  raw_.Advance(5s);
  clock_.Tick();

  Run(1min);

  EXPECT_EQ(Now(), start + 1min) << "of which what was told in the stall is a part";
}

TEST_F(StallClockTest, EachStallIsCutOut) {
  const MonotonicTime start = Now();
  for (int i = 0; i < 10; ++i) {
    raw_.Advance(1h);
    clock_.Tick();
  }

  EXPECT_LE(Now(), start + 10 * StallClock::kGrain);
  EXPECT_EQ(clock_.stalls(), 10u);
}

TEST_F(StallClockTest, LatenessThatIsReportedIsCutOutAndTimeStandsStillForIt) {  // B12
  Run(1s);
  const MonotonicTime before = Now();

  clock_.AddLateness(300ms);
  EXPECT_EQ(Now(), before) << "time went back";

  Run(200ms);
  EXPECT_EQ(Now(), before);
  Run(200ms);
  EXPECT_EQ(Now(), before + 100ms);
  EXPECT_EQ(clock_.total_lateness(), 300ms);
  EXPECT_EQ(clock_.stalls(), 1u);
}

TEST_F(StallClockTest, CalendarIsNotCut) {
  const WallTime start = clock_.Now().wall;

  raw_.Advance(5s);

  EXPECT_EQ(clock_.Now().wall, start + 5s);
}

TEST_F(StallClockTest, TimeNeverGoesBackForAnyReader) {
  std::atomic<bool> stop = false;
  std::vector<std::thread> readers;
  std::atomic<int> went_back = 0;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      MonotonicTime last = Now();
      while (!stop) {
        const MonotonicTime now = Now();
        if (now < last) ++went_back;
        last = now;
      }
    });
  }

  for (int i = 0; i < 2000; ++i) {
    raw_.Advance(i % 7 == 0 ? 3s : 50ms);
    if (i % 3 == 0) clock_.Tick();
    if (i % 11 == 0) clock_.AddLateness(20ms);
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();

  EXPECT_EQ(went_back, 0);
}

}  // namespace
}  // namespace broker
