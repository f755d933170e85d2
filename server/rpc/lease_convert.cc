#include "server/rpc/lease_convert.h"

#include <string>

#include "absl/strings/str_join.h"
#include "server/broker/broker.h"
#include "server/rpc/convert.h"
#include "server/rpc/page_token.h"

namespace broker {

namespace pb = ::sessionbroker::v1;

void ToProto(const LeaseInfo& info, pb::LeaseInfo& message) {
  message.set_handle(FormatLeaseHandle(info.handle));
  message.set_key(info.key);
  message.set_generation(info.generation);
  message.set_holder(info.holder);
  message.set_mode(info.mode == PinMode::kExclusive ? pb::PIN_MODE_EXCLUSIVE : pb::PIN_MODE_SHARED);
  ToProto(info.acquire_time, *message.mutable_acquire_time());
  ToProto(info.renew_time, *message.mutable_renew_time());
  ToProto(info.expire_time, *message.mutable_expire_time());
  message.set_initializer(info.initializer);
}

void ToProto(const ListLeasesOutcome& page, pb::ListLeasesResponse& message) {
  for (const LeaseInfo& lease : page.leases) ToProto(lease, *message.add_leases());
  if (page.next.has_value()) message.set_next_page_token(WriteLeasePageToken(*page.next));
}

void ToProto(const Explanation& explained, pb::ExplainSessionResponse& message) {
  if (explained.session.has_value()) ToProto(*explained.session, *message.mutable_session());
  for (const LeaseInfo& lease : explained.leases) ToProto(lease, *message.add_leases());
  for (const WaiterInfo& waiter : explained.waiters) {
    pb::WaiterInfo& added = *message.add_waiters();
    added.set_holder(waiter.holder);
    added.set_waits_for(std::string(waiter.waits_for));
    ToProto(waiter.since, *added.mutable_since());
  }
  message.set_reaper_verdict(explained.verdict);
  // Each is encoded as a batch of one, so that one behind the other is a batch.
  pb::EventBatch batch;
  batch.ParseFromString(absl::StrJoin(explained.recent_events, ""));
  message.mutable_recent_events()->Swap(batch.mutable_events());
  message.set_lease_count(explained.lease_count);
  message.set_waiter_count(explained.waiter_count);
}

}  // namespace broker
