// What goes into one message of a Pipeline.

#include <string>
#include <vector>

#include "client/cpp/pipeline_queue.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sessionbroker {
namespace {

using ::testing::ElementsAre;

std::string Renewal(uint64_t id, size_t bytes = 0) {
  v1::PipelineCall call;
  call.set_id(id);
  call.mutable_renew()->set_holder(std::string(bytes, 'x'));
  return PipelineQueue::Encode(std::move(call));
}

std::vector<uint64_t> Ids(const std::vector<PipelineQueue::Item>& items) {
  std::vector<uint64_t> ids;
  for (const PipelineQueue::Item& item : items) ids.push_back(item.id);
  return ids;
}

size_t Bytes(const std::vector<PipelineQueue::Item>& items) {
  size_t bytes = 0;
  for (const PipelineQueue::Item& item : items) bytes += item.encoded.size();
  return bytes;
}

TEST(PipelineQueueTest, CallsOneBehindTheOtherAreOneMessage) {
  PipelineQueue queue;
  queue.PushCall(2, Renewal(2));
  queue.PushCancel(Renewal(9));
  queue.PushCall(4, Renewal(4, 1000));
  std::string encoded;
  for (const PipelineQueue::Item& item : queue.Take()) encoded += item.encoded;

  v1::PipelineRequest message;
  ASSERT_TRUE(message.ParseFromString(encoded));

  ASSERT_EQ(message.calls_size(), 3);
  EXPECT_EQ(message.calls(0).id(), 2u);
  EXPECT_EQ(message.calls(1).id(), 9u);
  EXPECT_EQ(message.calls(2).id(), 4u);
  EXPECT_EQ(message.calls(2).renew().holder().size(), 1000u);
  EXPECT_TRUE(queue.empty());
}

TEST(PipelineQueueTest, AMessageHasAtMost1024Calls) {
  PipelineQueue queue;
  for (uint64_t id = 1; id <= 1025; ++id) queue.PushCall(id, Renewal(id));

  EXPECT_EQ(queue.Take().size(), 1024u);
  EXPECT_THAT(Ids(queue.Take()), ElementsAre(1025));
}

TEST(PipelineQueueTest, AMessageHasAtMostAMebibyte) {
  PipelineQueue queue;
  for (uint64_t id = 1; id <= 40; ++id) queue.PushCall(id, Renewal(id, 60'000));

  for (int message = 0; message < 2; ++message) {
    const std::vector<PipelineQueue::Item> items = queue.Take();
    EXPECT_LE(Bytes(items), size_t{1} << 20);
    EXPECT_EQ(items.size(), 17u);
  }
  EXPECT_EQ(queue.Take().size(), 6u);
}

TEST(PipelineQueueTest, ACallThatIsLargerThanAMessageGoesAlone) {
  PipelineQueue queue;
  queue.PushCall(1, Renewal(1));
  queue.PushCall(2, Renewal(2, 2 << 20));
  queue.PushCall(3, Renewal(3));

  EXPECT_THAT(Ids(queue.Take()), ElementsAre(1));
  EXPECT_THAT(Ids(queue.Take()), ElementsAre(2));
  EXPECT_THAT(Ids(queue.Take()), ElementsAre(3));
}

TEST(PipelineQueueTest, WhatIsRemovedIsNotSent) {
  PipelineQueue queue;
  for (uint64_t id = 1; id <= 3; ++id) queue.PushCall(id, Renewal(id));
  queue.PushCancel(Renewal(9));

  EXPECT_TRUE(queue.Remove(2));
  EXPECT_FALSE(queue.Remove(2));
  queue.RemoveCancels();

  EXPECT_THAT(Ids(queue.Take()), ElementsAre(1, 3));
}

// A lease is the same on every stream.
TEST(PipelineQueueTest, ReleasesStayForTheNextStream) {
  PipelineQueue queue;
  queue.PushCall(1, Renewal(1));
  queue.PushCancel(Renewal(8));
  queue.PushRelease(Renewal(9));

  queue.RemoveCancels();
  EXPECT_EQ(queue.size(), 2u);
  queue.RemoveAllButReleases();

  const std::vector<PipelineQueue::Item> items = queue.Take();
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].encoded, Renewal(9));
}

TEST(PipelineQueueTest, AtMost1000ReleasesStay) {
  PipelineQueue queue;
  for (uint64_t id = 1; id <= 1010; ++id) queue.PushRelease(Renewal(id));
  queue.PushCall(2000, Renewal(2000));

  EXPECT_EQ(queue.size(), 1001u);
}

}  // namespace
}  // namespace sessionbroker
