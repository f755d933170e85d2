// Where a watch is, message by message.

#include "client/cpp/watch_position.h"
#include "gtest/gtest.h"

namespace sessionbroker {
namespace {

v1::Event Ended(uint64_t generation, uint64_t revision) {
  v1::Event event;
  event.set_type(v1::EVENT_TYPE_ENDED);
  event.set_revision(revision);
  event.mutable_session()->set_key("a");
  event.mutable_session()->set_generation(generation);
  return event;
}

// F01, F02: a key that ended and came again while the initial state was read is in it twice.
TEST(WatchPositionTest, TheEndOfAnOlderGenerationIsToldThoughTheInitialStateHasANewerOne) {
  WatchPosition position({}, {.initial_state = true});
  v1::SessionBatch batch;
  for (const uint64_t generation : {1, 2}) {
    v1::Session& session = *batch.add_sessions();
    session.set_key("a");
    session.set_generation(generation);
    session.set_revision(10 * generation);
  }
  position.OnInitial(batch);
  position.OnSynced(5);

  EXPECT_TRUE(position.OnEvent(Ended(1, 15)));
  EXPECT_FALSE(position.OnEvent(Ended(2, 20))) << "as of 20 it was there: this is not its end";
  EXPECT_TRUE(position.OnEvent(Ended(2, 21)));
}

}  // namespace
}  // namespace sessionbroker
