// What operators look at and take away with brokerctl: leases, revoke, explain, top. Against a
// broker that answers with what the test says.

#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/brokerctl_process.h"
#include "tests/support/fake_admin_service.h"
#include "tests/support/fake_broker_service.h"

namespace broker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

// The cells of a row. None of ours has a space in it.
std::vector<std::string> Cells(const std::string& line) {
  return absl::StrSplit(line, ' ', absl::SkipEmpty());
}

// The first cells of the rows below the header.
std::vector<std::string> Firsts(const std::string& table) {
  std::vector<std::string> firsts;
  for (const std::string& line : Lines(table)) firsts.push_back(Cells(line).front());
  if (!firsts.empty()) firsts.erase(firsts.begin());
  return firsts;
}

v1::LeaseInfo Lease(const std::string& handle, const std::string& key, const std::string& holder,
                    int acquired = 0) {
  v1::LeaseInfo lease;
  lease.set_handle(handle);
  lease.set_key(key);
  lease.set_generation(7);
  lease.set_holder(holder);
  lease.set_mode(v1::PIN_MODE_SHARED);
  lease.mutable_acquire_time()->set_seconds(1714564800 + acquired);
  return lease;
}

class BrokerctlOperatorTest : public testing::Test {
 protected:
  CtlResult Ctl(const std::vector<std::string>& args) { return RunCtl(fake_.endpoint(), args); }

  // The output of a command that must succeed.
  std::string Out(const std::vector<std::string>& args) {
    const CtlResult result = Ctl(args);
    EXPECT_EQ(result.code, 0) << result.errors;
    EXPECT_EQ(result.errors, "");
    return result.out;
  }

  template <typename Message>
  Message Json(std::vector<std::string> args) {
    args.insert(args.end(), {"-o", "json"});
    Message message;
    const std::string text = Out(args);
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(text, &message).ok()) << text;
    return message;
  }

  std::vector<std::string> RevokedHandles() {
    std::vector<std::string> handles;
    for (const v1::RevokeLeaseRequest& request : fake_.revocations()) {
      handles.push_back(request.handle());
    }
    return handles;
  }

  FakeAdminService fake_;
};

TEST_F(BrokerctlOperatorTest, LeasesAreARowEachWithEverythingKnown) {
  v1::LeaseInfo lease = Lease("h1", "a", "web\n3");
  lease.set_mode(v1::PIN_MODE_EXCLUSIVE);
  lease.mutable_renew_time()->set_seconds(1714564810);
  lease.mutable_expire_time()->set_seconds(1714564840);
  lease.set_initializer(true);
  fake_.AddLease(lease);

  const std::vector<std::string> lines = Lines(Out({"leases"}));

  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(Cells(lines[0]), ElementsAre("HANDLE", "KEY", "GENERATION", "MODE", "HOLDER",
                                           "ACQUIRED", "RENEWED", "EXPIRES", "INITIALIZER"));
  EXPECT_THAT(Cells(lines[1]),
              ElementsAre("h1", "a", "7", "EXCLUSIVE", "web\\n3", "2024-05-01T12:00:00Z",
                          "2024-05-01T12:00:10Z", "2024-05-01T12:00:40Z", "yes"));
}

TEST_F(BrokerctlOperatorTest, LeasesOfEveryPageAreListedByKeyTheOldestFirst) {
  fake_.AddLease(Lease("h1", "b", "x"));
  fake_.AddLease(Lease("h2", "a", "x", 20));
  fake_.AddLease(Lease("h3", "c", "x"));
  fake_.AddLease(Lease("h4", "a", "x", 10));
  fake_.AddLease(Lease("h5", "d", "x"));

  EXPECT_THAT(Firsts(Out({"leases"})), ElementsAre("h4", "h2", "h1", "h3", "h5"));
  EXPECT_EQ(fake_.calls("ListLeases"), 3);
  const auto json = Json<v1::ListLeasesResponse>({"leases"});
  EXPECT_EQ(json.leases_size(), 5);
  EXPECT_EQ(json.leases(0).handle(), "h4");
  EXPECT_EQ(json.next_page_token(), "");
}

TEST_F(BrokerctlOperatorTest, LeasesAreFilteredByTheBroker) {
  Out({"leases", "-n", "ns", "--key", "a", "--holder", "web-3"});

  const v1::ListLeasesRequest request = fake_.lease_lists().at(0);
  EXPECT_EQ(request.namespace_(), "ns");
  EXPECT_EQ(request.key(), "a");
  EXPECT_EQ(request.holder(), "web-3");
}

TEST_F(BrokerctlOperatorTest, AShortOutageIsRiddenOutWhileListing) {
  fake_.AddLease(Lease("h1", "a", "x"));
  fake_.FailNext("ListLeases", UnavailableStatus(), 2);

  EXPECT_THAT(Firsts(Out({"leases"})), ElementsAre("h1"));
}

TEST_F(BrokerctlOperatorTest, RevokeTakesTheLeaseOfAHandleOnce) {
  fake_.AddLease(Lease("h1", "a", "x"));
  fake_.AddLease(Lease("h2", "a", "x"));

  EXPECT_EQ(Out({"revoke", "h1", "-n", "ns", "--reason", "stuck"}), "revoked\n");
  EXPECT_EQ(Out({"revoke", "h1"}),
            "nothing to revoke: that lease is over, or was listed before a restart; see `brokerctl "
            "leases`\n");

  const v1::RevokeLeaseRequest request = fake_.revocations().at(0);
  EXPECT_EQ(request.namespace_(), "ns");
  EXPECT_EQ(request.handle(), "h1");
  EXPECT_EQ(request.reason(), "stuck");
  EXPECT_THAT(Firsts(Out({"leases"})), ElementsAre("h2"));
  EXPECT_TRUE(Json<v1::RevokeLeaseResponse>({"revoke", "h2"}).revoked());
}

TEST_F(BrokerctlOperatorTest, RevokeSaysWhatItRevokedOfWhatMatches) {
  fake_.AddLease(Lease("h1", "a", "x"));
  fake_.AddLease(Lease("h2", "a", "y"));
  fake_.AddLease(Lease("h3", "b", "x"));
  fake_.AddLease(Lease("h4", "a", "x"));
  fake_.AddLease(Lease("h5", "a", "x"));

  const std::string out =
      Out({"revoke", "--key", "a", "--holder", "x", "--reason", "r", "-n", "ns"});

  EXPECT_THAT(Firsts(out), ElementsAre("h1", "h4", "h5"));
  EXPECT_THAT(RevokedHandles(), ElementsAre("h1", "h4", "h5"));
  EXPECT_EQ(fake_.revocations().at(2).reason(), "r");
  EXPECT_EQ(fake_.revocations().at(2).namespace_(), "ns");
  EXPECT_THAT(Firsts(Out({"leases"})), ElementsAre("h2", "h3"));
}

TEST_F(BrokerctlOperatorTest, RevokeOfAHolderReachesAllItsKeys) {
  fake_.AddLease(Lease("h1", "a", "x"));
  fake_.AddLease(Lease("h2", "b", "x"));
  fake_.AddLease(Lease("h3", "b", "y"));

  const auto revoked = Json<v1::ListLeasesResponse>({"revoke", "--holder", "x"});

  ASSERT_EQ(revoked.leases_size(), 2);
  EXPECT_EQ(revoked.leases(1).key(), "b");
  EXPECT_EQ(Out({"revoke", "--holder", "x"}), "nothing to revoke\n");
}

TEST_F(BrokerctlOperatorTest, ARevocationThatFailsIsToldAfterThoseThatDidNot) {
  for (const char* handle : {"h1", "h2", "h3"}) fake_.AddLease(Lease(handle, "a", "x"));
  fake_.FailNext("RevokeLease",
                 MakeBrokerError({.code = grpc::StatusCode::UNAVAILABLE,
                                  .message = "no space left",
                                  .reason = "STORE_UNAVAILABLE"}),
                 100);

  const CtlResult none = Ctl({"revoke", "--key", "a"});
  EXPECT_EQ(none.code, 3);
  EXPECT_EQ(none.out, "");
  EXPECT_THAT(none.errors, StartsWith("brokerctl: STORE_UNAVAILABLE: no space left ("));
  fake_.FailNext("RevokeLease", grpc::Status::OK, 0);
  EXPECT_THAT(Firsts(Out({"revoke", "--key", "a"})), ElementsAre("h1", "h2", "h3"));
}

TEST_F(BrokerctlOperatorTest, ARevocationWhoseAnswerWasLostIsStillOne) {
  fake_.AddLease(Lease("h1", "a", "x"));
  fake_.LoseAnswer("RevokeLease");

  EXPECT_EQ(Out({"revoke", "h1"}), "revoked\n");
  EXPECT_THAT(RevokedHandles(), ElementsAre("h1", "h1"));
}

// A variable that is not set must not revoke everything.
TEST_F(BrokerctlOperatorTest, RevokeNeedsToBeToldWhat) {
  fake_.AddLease(Lease("h1", "a", "x"));
  const std::vector<std::string> cases[] = {
      {"revoke"},
      {"revoke", "--key", "a", "--holder", ""},
      {"revoke", "--key", "", "--holder", "x"},
      {"revoke", ""},
      {"revoke", "--key", ""},
      {"revoke", "--key", "", "--holder", ""},
      {"revoke", "h1", "--key", "a"},
      {"revoke", "h1", "--holder", "x"},
  };
  for (const std::vector<std::string>& args : cases) {
    const CtlResult result = Ctl(args);
    EXPECT_EQ(result.code, 2) << testing::PrintToString(args);
    EXPECT_THAT(result.errors, StartsWith("brokerctl: usage: "));
  }
  EXPECT_THAT(RevokedHandles(), IsEmpty());
}

TEST_F(BrokerctlOperatorTest, ExplainShowsAllPartsThatThereAre) {
  v1::ExplainSessionResponse response;
  response.mutable_session()->set_key("a");
  response.mutable_session()->set_state(v1::SESSION_STATE_ACTIVE);
  response.set_reaper_verdict("pinned by 150 leases");
  *response.add_leases() = Lease("h1", "a", "web-3");
  response.set_lease_count(150);
  v1::WaiterInfo& waiter = *response.add_waiters();
  waiter.set_holder("web-4");
  waiter.set_waits_for("pin");
  waiter.mutable_since()->set_seconds(1714564800);
  response.set_waiter_count(1);
  v1::Event& event = *response.add_recent_events();
  event.set_revision(12);
  event.set_type(v1::EVENT_TYPE_ACTIVATED);
  event.set_reason("\x1b[31mred");
  fake_.Explain(response);

  const std::string out = Out({"explain", "a", "-n", "ns"});

  EXPECT_EQ(Field(out, "state"), "ACTIVE");
  EXPECT_EQ(Field(out, "reaper"), "pinned by 150 leases");
  EXPECT_THAT(out, HasSubstr("\nLeases (the first 1 of 150)\nHANDLE"));
  EXPECT_THAT(out, HasSubstr("\nh1 "));
  EXPECT_THAT(out, HasSubstr("\nWaiters (1)\nHOLDER"));
  EXPECT_THAT(Cells(Field(out, "web-4")), ElementsAre("pin", "2024-05-01T12:00:00Z"));
  EXPECT_THAT(out, HasSubstr("\nRecent events (1)\nTIME"));
  EXPECT_THAT(out, HasSubstr("12        ACTIVATED  0           -       \\x1b[31mred\n"));
  EXPECT_EQ(fake_.explanations().at(0).namespace_(), "ns");
  EXPECT_EQ(fake_.explanations().at(0).key(), "a");
  EXPECT_EQ(Json<v1::ExplainSessionResponse>({"explain", "a"}).lease_count(), 150u);
}

TEST_F(BrokerctlOperatorTest, ExplainSaysWhereThereAreOnlyWaiters) {
  v1::ExplainSessionResponse response;
  response.add_waiters()->set_waits_for("capacity");
  response.set_waiter_count(1);
  fake_.Explain(response);

  const std::string out = Out({"explain", "a"});

  EXPECT_EQ(Field(out, "key"), "a");
  EXPECT_EQ(Field(out, "state"), "absent; there are only waiters");
  EXPECT_THAT(out, Not(HasSubstr("Leases")));
  EXPECT_THAT(out, Not(HasSubstr("Recent events")));
}

TEST_F(BrokerctlOperatorTest, ExplainOfNothingIsFour) {
  fake_.FailNext("ExplainSession", MakeBrokerError({.code = grpc::StatusCode::NOT_FOUND,
                                                    .message = "session 'a': there is none",
                                                    .reason = "SESSION_NOT_FOUND"}));

  const CtlResult result = Ctl({"explain", "a"});

  EXPECT_EQ(result.code, 4);
  EXPECT_THAT(result.errors,
              AllOf(StartsWith("brokerctl: SESSION_NOT_FOUND: "), HasSubstr("brokerctl list")));
}

v1::Namespace Namespace(const std::string& name, uint32_t limit, uint32_t active,
                        uint32_t waiters = 0) {
  v1::Namespace entry;
  entry.set_name(name);
  entry.mutable_config()->set_max_sessions(limit);
  entry.mutable_usage()->set_active(active);
  entry.mutable_usage()->set_waiters(waiters);
  return entry;
}

TEST_F(BrokerctlOperatorTest, TopWithoutATerminalPrintsOnceTheBusiestFirst) {
  fake_.AddNamespace(Namespace("idle", 100, 0));
  fake_.AddNamespace(Namespace("large", 1000, 500));
  fake_.AddNamespace(Namespace("small", 2, 2));
  fake_.AddNamespace(Namespace("queued", 10, 10, 3));
  fake_.AddNamespace(Namespace("also-idle", 100, 0));

  const std::string out = Out({"top"});

  EXPECT_THAT(out, StartsWith("namespaces: 5  sessions: 512  suspended: 0  leases: 0  waiters: 3\n"
                              "\nNAMESPACE "));
  EXPECT_THAT(Firsts(out.substr(out.find("NAMESPACE"))),
              ElementsAre("queued", "small", "large", "also-idle", "idle"));
  EXPECT_THAT(out, Not(HasSubstr("\x1b")));
  EXPECT_EQ(Json<v1::ListNamespacesResponse>({"top"}).namespaces(0).name(), "queued");
}

TEST_F(BrokerctlOperatorTest, TopCountsWhatTakesASlotAndNotesWhatIsUnusual) {
  v1::Namespace entry = Namespace("a", 20, 4);
  v1::NamespaceUsage& usage = *entry.mutable_usage();
  usage.set_initializing(1);
  usage.set_suspending(2);
  usage.set_ending(3);
  usage.set_pinned(5);
  usage.set_suspended(6);
  usage.set_leases(7);
  usage.set_draining(true);
  usage.mutable_recovery_end_time()->set_seconds(1714564800);
  fake_.AddNamespace(entry);

  EXPECT_THAT(Cells(Lines(Out({"top", "--once"})).back()),
              ElementsAre("a", "10/20", "50%", "1", "4", "5", "2", "3", "6", "7", "0",
                          "draining,recovering"));
}

TEST_F(BrokerctlOperatorTest, NamespacesThatAreDrainedAreMarkedInTheList) {
  v1::Namespace entry = Namespace("a", 20, 4);
  entry.mutable_usage()->set_draining(true);
  fake_.AddNamespace(entry);
  fake_.AddNamespace(Namespace("b", 20, 4));

  const std::vector<std::string> lines = Lines(Out({"namespace", "list"}));

  EXPECT_EQ(Cells(lines.at(0)).back(), "DRAINING");
  EXPECT_EQ(Cells(lines.at(1)).back(), "yes");
  EXPECT_EQ(Cells(lines.at(2)).back(), "-");
}

}  // namespace
}  // namespace broker
