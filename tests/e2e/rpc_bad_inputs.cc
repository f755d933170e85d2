#include "tests/e2e/rpc_bad_inputs.h"

#include <type_traits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

// A request that is good but for what `spoil` does to it.
template <typename Request>
std::function<std::string(const HeldLeases&)> Spoil(std::function<void(Request&)> spoil) {
  return [spoil](const HeldLeases& leases) {
    Request request;
    if constexpr (requires { request.set_key(""); }) request.set_key("held");
    if constexpr (requires { request.set_lease_id(""); }) {
      request.set_lease_id(std::is_same_v<Request, pb::ActivateRequest> ? leases.initializing
                                                                        : leases.active);
    }
    spoil(request);
    return request.SerializePartialAsString();
  };
}

std::string Times(size_t count, char c = 'x') { return std::string(count, c); }

template <typename Labels>
void TooManyLabels(Labels& labels) {
  for (int i = 0; i < 33; ++i) labels[absl::StrCat("l", i)] = "";
}

constexpr char kAcquire[] = "SessionBrokerService/Acquire";
constexpr char kActivate[] = "SessionBrokerService/Activate";
constexpr char kRenew[] = "SessionBrokerService/Renew";
constexpr char kCheckpoint[] = "SessionBrokerService/Checkpoint";
constexpr char kRelease[] = "SessionBrokerService/Release";
constexpr char kEnd[] = "SessionBrokerService/End";
constexpr char kSuspend[] = "SessionBrokerService/Suspend";
constexpr char kGet[] = "SessionBrokerService/GetSession";
constexpr char kList[] = "SessionBrokerService/ListSessions";
constexpr char kSubscribe[] = "SessionBrokerService/Subscribe";
constexpr char kGetNamespace[] = "AdminService/GetNamespace";
constexpr char kUpdateNamespace[] = "AdminService/UpdateNamespace";
constexpr char kListNamespaces[] = "AdminService/ListNamespaces";
constexpr char kDeleteNamespace[] = "AdminService/DeleteNamespace";
constexpr char kListLeases[] = "AdminService/ListLeases";
constexpr char kRevokeLease[] = "AdminService/RevokeLease";
constexpr char kExplainSession[] = "AdminService/ExplainSession";
constexpr char kDrain[] = "AdminService/Drain";
constexpr char kUndrain[] = "AdminService/Undrain";

using A = pb::AcquireRequest;
using V = pb::ActivateRequest;
using L = pb::ListSessionsRequest;
using U = pb::UpdateNamespaceRequest;

}  // namespace

std::vector<BadInput> AcquireInputs() {
  return {
      {"KeyEmpty", kAcquire, "key", Spoil<A>([](A& r) { r.clear_key(); })},
      {"KeyTooLong", kAcquire, "key", Spoil<A>([](A& r) { r.set_key(Times(257)); })},
      {"KeyNotUtf8", kAcquire, "key", Spoil<A>([](A& r) { r.set_key("a\xff"); })},
      {"KeyOverlong", kAcquire, "key", Spoil<A>([](A& r) { r.set_key("\xc0\xaf"); })},
      {"KeySurrogate", kAcquire, "key", Spoil<A>([](A& r) { r.set_key("\xed\xa0\x80"); })},
      {"KeyCutOff", kAcquire, "key", Spoil<A>([](A& r) { r.set_key("\xe2\x82"); })},
      {"NamespaceTooLong", kAcquire, "namespace",
       Spoil<A>([](A& r) { r.set_namespace_(Times(64)); })},
      {"NamespaceCharacter", kAcquire, "namespace",
       Spoil<A>([](A& r) { r.set_namespace_("a/b"); })},
      {"NamespaceStart", kAcquire, "namespace", Spoil<A>([](A& r) { r.set_namespace_(".a"); })},
      {"NamespaceNotUtf8", kAcquire, "namespace", Spoil<A>([](A& r) { r.set_namespace_("\x80"); })},
      {"HolderTooLong", kAcquire, "holder", Spoil<A>([](A& r) { r.set_holder(Times(129)); })},
      {"HolderNotUtf8", kAcquire, "holder", Spoil<A>([](A& r) { r.set_holder("\xf5"); })},
      {"OwnerTooLong", kAcquire, "owner", Spoil<A>([](A& r) { r.set_owner(Times(129)); })},
      {"OwnerNotUtf8", kAcquire, "owner", Spoil<A>([](A& r) { r.set_owner("\xfe"); })},
      {"ModeUnknown", kAcquire, "mode",
       Spoil<A>([](A& r) { r.set_mode(static_cast<pb::PinMode>(3)); })},
      {"ModeNegative", kAcquire, "mode",
       Spoil<A>([](A& r) { r.set_mode(static_cast<pb::PinMode>(-1)); })},
      {"IfAbsentUnknown", kAcquire, "if_absent",
       Spoil<A>([](A& r) { r.set_if_absent(static_cast<pb::IfAbsent>(3)); })},
      {"LeaseTtlNegative", kAcquire, "lease_ttl",
       Spoil<A>([](A& r) { r.mutable_lease_ttl()->set_seconds(-1); })},
      {"LeaseTtlNegativeNanos", kAcquire, "lease_ttl",
       Spoil<A>([](A& r) { r.mutable_lease_ttl()->set_nanos(-1); })},
      {"LeaseTtlNanosTooBig", kAcquire, "lease_ttl",
       Spoil<A>([](A& r) { r.mutable_lease_ttl()->set_nanos(1'000'000'000); })},
      {"LeaseTtlMixedSigns", kAcquire, "lease_ttl", Spoil<A>([](A& r) {
         r.mutable_lease_ttl()->set_seconds(1);
         r.mutable_lease_ttl()->set_nanos(-1);
       })},
      {"LeaseTtlBeyondYears", kAcquire, "lease_ttl",
       Spoil<A>([](A& r) { r.mutable_lease_ttl()->set_seconds(315'576'000'001); })},
      {"WaitTimeoutNegative", kAcquire, "wait_timeout",
       Spoil<A>([](A& r) { r.mutable_wait_timeout()->set_seconds(-5); })},
      {"WaitTimeoutNanosTooBig", kAcquire, "wait_timeout",
       Spoil<A>([](A& r) { r.mutable_wait_timeout()->set_nanos(2'000'000'000); })},
      {"RequestIdTooLong", kAcquire, "request_id",
       Spoil<A>([](A& r) { r.set_request_id(Times(65)); })},
      {"RequestIdNotUtf8", kAcquire, "request_id",
       Spoil<A>([](A& r) { r.set_request_id("\xff"); })},
      {"LabelsTooMany", kAcquire, "labels",
       Spoil<A>([](A& r) { TooManyLabels(*r.mutable_labels()); })},
      {"LabelNameEmpty", kAcquire, "labels",
       Spoil<A>([](A& r) { (*r.mutable_labels())[""] = "v"; })},
      {"LabelNameTooLong", kAcquire, "labels",
       Spoil<A>([](A& r) { (*r.mutable_labels())[Times(64)] = "v"; })},
      {"LabelValueTooLong", kAcquire, "labels",
       Spoil<A>([](A& r) { (*r.mutable_labels())["n"] = Times(257); })},
      {"LabelNameNotUtf8", kAcquire, "labels",
       Spoil<A>([](A& r) { (*r.mutable_labels())["\xff"] = "v"; })},
      {"LabelValueNotUtf8", kAcquire, "labels",
       Spoil<A>([](A& r) { (*r.mutable_labels())["n"] = "\xff"; })},
      {"Garbage", kAcquire, "request",
       [](const HeldLeases&) {
         return std::string(
             "\x12\x7f"
             "abc");
       }},
      {"WireTypeUnknown", kAcquire, "request",
       [](const HeldLeases&) { return std::string("\x0f"); }},
      {"NestedWithoutEnd", kAcquire, "request",
       [](const HeldLeases&) { return Times(100'000, '\x53'); }},
  };
}

std::vector<BadInput> LeaseInputs() {
  using C = pb::CheckpointRequest;
  return {
      {"OutcomeUnset", kActivate, "outcome", Spoil<V>([](V&) {})},
      {"LeaseIdEmpty", kActivate, "lease_id", Spoil<V>([](V& r) {
         r.clear_lease_id();
         r.mutable_activated();
       })},
      {"LeaseIdMalformed", kActivate, "lease_id", Spoil<V>([](V& r) {
         r.set_lease_id("no-lease");
         r.mutable_activated();
       })},
      {"LeaseIdTooLong", kActivate, "lease_id", Spoil<V>([](V& r) {
         r.set_lease_id(Times(10'000));
         r.mutable_activated();
       })},
      {"LeaseIdMalformedOfFailure", kActivate, "lease_id", Spoil<V>([](V& r) {
         r.set_lease_id("no-lease");
         r.mutable_failure();
       })},
      {"LeaseIdNotUtf8", kActivate, "lease_id", Spoil<V>([](V& r) {
         r.set_lease_id("\xff");
         r.mutable_activated();
       })},
      {"EndpointTooLong", kActivate, "activated.endpoint",
       Spoil<V>([](V& r) { r.mutable_activated()->set_endpoint(Times(513)); })},
      {"EndpointNotUtf8", kActivate, "activated.endpoint",
       Spoil<V>([](V& r) { r.mutable_activated()->set_endpoint("\xff"); })},
      {"CheckpointTooLong", kActivate, "activated.checkpoint",
       Spoil<V>([](V& r) { r.mutable_activated()->set_checkpoint(Times((1 << 20) + 1)); })},
      {"LabelsTooMany", kActivate, "activated.labels",
       Spoil<V>([](V& r) { TooManyLabels(*r.mutable_activated()->mutable_labels()); })},
      {"LabelNotUtf8", kActivate, "activated.labels",
       Spoil<V>([](V& r) { (*r.mutable_activated()->mutable_labels())["\xff"] = ""; })},
      {"FailureTooLong", kActivate, "failure.message",
       Spoil<V>([](V& r) { r.mutable_failure()->set_message(Times(1025)); })},
      {"FailureNotUtf8", kActivate, "failure.message",
       Spoil<V>([](V& r) { r.mutable_failure()->set_message("\xff"); })},
      {"RetryAfterNegative", kActivate, "failure.retry_after",
       Spoil<V>([](V& r) { r.mutable_failure()->mutable_retry_after()->set_seconds(-1); })},
      {"TooManyLeases", kRenew, "lease_ids", Spoil<pb::RenewRequest>([](pb::RenewRequest& r) {
         for (int i = 0; i < 1001; ++i) r.add_lease_ids("x");
       })},
      {"ThirdLeaseNotUtf8", kRenew, "lease_ids[2]",
       Spoil<pb::RenewRequest>([](pb::RenewRequest& r) {
         for (const char* id : {"a", "b", "\xff"}) r.add_lease_ids(id);
       })},
      {"HolderTooLong", kRenew, "holder",
       Spoil<pb::RenewRequest>([](pb::RenewRequest& r) { r.set_holder(Times(129)); })},
      {"LeaseIdEmpty", kCheckpoint, "lease_id", Spoil<C>([](C& r) { r.clear_lease_id(); })},
      {"LeaseIdMalformed", kCheckpoint, "lease_id", Spoil<C>([](C& r) { r.set_lease_id("no"); })},
      {"DataTooLong", kCheckpoint, "data",
       Spoil<C>([](C& r) { r.set_data(Times((1 << 20) + 1)); })},
      {"LeaseIdNotUtf8", kCheckpoint, "lease_id", Spoil<C>([](C& r) { r.set_lease_id("\xff"); })},
      {"CheckpointTooLong", kRelease, "checkpoint",
       Spoil<pb::ReleaseRequest>(
           [](pb::ReleaseRequest& r) { r.set_checkpoint(Times((1 << 20) + 1)); })},
      {"LeaseIdEmpty", kRelease, "lease_id",
       Spoil<pb::ReleaseRequest>([](pb::ReleaseRequest& r) { r.clear_lease_id(); })},
      {"LeaseIdMalformed", kRelease, "lease_id",
       Spoil<pb::ReleaseRequest>([](pb::ReleaseRequest& r) { r.set_lease_id(Times(50)); })},
      {"DispositionUnknown", kRelease, "disposition",
       Spoil<pb::ReleaseRequest>(
           [](pb::ReleaseRequest& r) { r.set_disposition(static_cast<pb::Disposition>(9)); })},
  };
}

std::vector<BadInput> SessionInputs() {
  using E = pb::EndRequest;
  using S = pb::SuspendRequest;
  using G = pb::GetSessionRequest;
  return {
      {"KeyEmpty", kEnd, "key", Spoil<E>([](E& r) { r.clear_key(); })},
      {"KeyTooLong", kEnd, "key", Spoil<E>([](E& r) { r.set_key(Times(257)); })},
      {"NamespaceSpace", kEnd, "namespace", Spoil<E>([](E& r) { r.set_namespace_("a b"); })},
      {"ReasonTooLong", kEnd, "reason", Spoil<E>([](E& r) { r.set_reason(Times(1025)); })},
      {"ReasonNotUtf8", kEnd, "reason", Spoil<E>([](E& r) { r.set_reason("\xff"); })},
      {"KeyEmpty", kSuspend, "key", Spoil<S>([](S& r) { r.clear_key(); })},
      {"KeyTooLong", kSuspend, "key", Spoil<S>([](S& r) { r.set_key(Times(257)); })},
      {"KeyNotUtf8", kSuspend, "key", Spoil<S>([](S& r) { r.set_key("\xff"); })},
      {"NamespaceTooLong", kSuspend, "namespace",
       Spoil<S>([](S& r) { r.set_namespace_(Times(64)); })},
      {"KeyEmpty", kGet, "key", Spoil<G>([](G& r) { r.clear_key(); })},
      {"KeyTooLong", kGet, "key", Spoil<G>([](G& r) { r.set_key(Times(257)); })},
      {"NamespaceTooLong", kGet, "namespace", Spoil<G>([](G& r) { r.set_namespace_(Times(64)); })},
      {"NamespaceNotAscii", kList, "namespace",
       Spoil<L>([](L& r) { r.set_namespace_("\xc3\xa9"); })},
      {"PrefixTooLong", kList, "key_prefix", Spoil<L>([](L& r) { r.set_key_prefix(Times(257)); })},
      {"LabelsTooMany", kList, "labels",
       Spoil<L>([](L& r) { TooManyLabels(*r.mutable_labels()); })},
      {"StateUnknown", kList, "states[1]", Spoil<L>([](L& r) {
         r.add_states(pb::SESSION_STATE_ACTIVE);
         r.add_states(static_cast<pb::SessionState>(99));
       })},
      {"StateUnspecified", kList, "states[0]",
       Spoil<L>([](L& r) { r.add_states(pb::SESSION_STATE_UNSPECIFIED); })},
      {"PageSizeNegative", kList, "page_size", Spoil<L>([](L& r) { r.set_page_size(-1); })},
      {"PageSizeTooBig", kList, "page_size", Spoil<L>([](L& r) { r.set_page_size(1001); })},
      {"PageTokenMalformed", kList, "page_token", Spoil<L>([](L& r) { r.set_page_token("!"); })},
      {"PageTokenOfAnotherListing", kList, "page_token",
       Spoil<L>([](L& r) { r.set_page_token("bjE6ZGVmYXVsdA=="); })},
      // "t1:" and what is no key: too long, and not UTF-8.
      {"PageTokenOfNoKey", kList, "page_token", Spoil<L>([](L& r) {
         r.set_page_token(absl::WebSafeBase64Escape(absl::StrCat("t1:", Times(257))));
       })},
      {"PageTokenNotUtf8", kList, "page_token",
       Spoil<L>([](L& r) { r.set_page_token(absl::WebSafeBase64Escape("t1:\xff")); })},
      {"PageTokenSpelledOtherwise", kList, "page_token",
       Spoil<L>([](L& r) { r.set_page_token("czE6MC4w  "); })},
  };
}

std::vector<BadInput> SubscribeInputs() {
  using S = pb::SubscribeRequest;
  return {
      {"NamespaceTooLong", kSubscribe, "namespace",
       Spoil<S>([](S& r) { r.set_namespace_(Times(64)); })},
      {"NamespaceCharacter", kSubscribe, "namespace",
       Spoil<S>([](S& r) { r.set_namespace_("a b"); })},
      {"NamespaceNotUtf8", kSubscribe, "namespace",
       Spoil<S>([](S& r) { r.set_namespace_("\xff"); })},
      {"KeysTooMany", kSubscribe, "keys", Spoil<S>([](S& r) {
         for (int i = 0; i < 1001; ++i) r.add_keys(absl::StrCat(i));
       })},
      {"SecondKeyEmpty", kSubscribe, "keys[1]", Spoil<S>([](S& r) {
         r.add_keys("a");
         r.add_keys("");
       })},
      {"KeyTooLong", kSubscribe, "keys[0]", Spoil<S>([](S& r) { r.add_keys(Times(257)); })},
      {"KeyNotUtf8", kSubscribe, "keys[0]", Spoil<S>([](S& r) { r.add_keys("\xff"); })},
      {"PrefixTooLong", kSubscribe, "key_prefix",
       Spoil<S>([](S& r) { r.set_key_prefix(Times(257)); })},
      {"PrefixNotUtf8", kSubscribe, "key_prefix",
       Spoil<S>([](S& r) { r.set_key_prefix("\xe2\x82"); })},
      {"LabelsTooMany", kSubscribe, "labels",
       Spoil<S>([](S& r) { TooManyLabels(*r.mutable_labels()); })},
      {"LabelNameEmpty", kSubscribe, "labels",
       Spoil<S>([](S& r) { (*r.mutable_labels())[""] = "v"; })},
      {"LabelValueTooLong", kSubscribe, "labels",
       Spoil<S>([](S& r) { (*r.mutable_labels())["n"] = Times(257); })},
      {"LabelNotUtf8", kSubscribe, "labels",
       Spoil<S>([](S& r) { (*r.mutable_labels())["n"] = "\xff"; })},
      {"TypeUnknown", kSubscribe, "types[1]", Spoil<S>([](S& r) {
         r.add_types(pb::EVENT_TYPE_CREATED);
         r.add_types(static_cast<pb::EventType>(17));
       })},
      {"TypeReserved", kSubscribe, "types[0]",
       Spoil<S>([](S& r) { r.add_types(static_cast<pb::EventType>(11)); })},
      {"TypeUnspecified", kSubscribe, "types[0]",
       Spoil<S>([](S& r) { r.add_types(pb::EVENT_TYPE_UNSPECIFIED); })},
      {"TypeNegative", kSubscribe, "types[0]",
       Spoil<S>([](S& r) { r.add_types(static_cast<pb::EventType>(-1)); })},
      {"TypeBeyondABitSet", kSubscribe, "types[0]",
       Spoil<S>([](S& r) { r.add_types(static_cast<pb::EventType>(33)); })},
      {"HeartbeatNegative", kSubscribe, "heartbeat_interval",
       Spoil<S>([](S& r) { r.mutable_heartbeat_interval()->set_seconds(-1); })},
      {"HeartbeatNanosTooBig", kSubscribe, "heartbeat_interval",
       Spoil<S>([](S& r) { r.mutable_heartbeat_interval()->set_nanos(1'000'000'000); })},
      {"RevisionAndInitialState", kSubscribe, "after_revision", Spoil<S>([](S& r) {
         r.set_after_revision(0);
         r.set_send_initial_state(true);
       })},
      {"FinishWithoutKey", kSubscribe, "finish_at_end",
       Spoil<S>([](S& r) { r.set_finish_at_end(true); })},
      {"FinishWithTwoKeys", kSubscribe, "finish_at_end", Spoil<S>([](S& r) {
         r.add_keys("a");
         r.add_keys("b");
         r.set_finish_at_end(true);
       })},
      {"GenerationWithoutFinish", kSubscribe, "generation", Spoil<S>([](S& r) {
         r.add_keys("a");
         r.set_generation(1);
       })},
      {"Garbage", kSubscribe, "request",
       [](const HeldLeases&) {
         return std::string(
             "\x12\x7f"
             "abc");
       }},
  };
}

std::vector<BadInput> OperatorInputs() {
  using L = pb::ListLeasesRequest;
  using R = pb::RevokeLeaseRequest;
  using E = pb::ExplainSessionRequest;
  using D = pb::DrainRequest;
  return {
      {"LeasesKeyTooLong", kListLeases, "key", Spoil<L>([](L& r) { r.set_key(Times(257)); })},
      {"LeasesHolderTooLong", kListLeases, "holder",
       Spoil<L>([](L& r) { r.set_holder(Times(129)); })},
      {"LeasesPageSize", kListLeases, "page_size", Spoil<L>([](L& r) { r.set_page_size(-1); })},
      {"LeasesPageToken", kListLeases, "page_token",
       Spoil<L>([](L& r) { r.set_page_token("czE6MC41"); })},
      {"HandleEmpty", kRevokeLease, "handle", Spoil<R>([](R&) {})},
      {"HandleMalformed", kRevokeLease, "handle", Spoil<R>([](R& r) { r.set_handle("1.2.3"); })},
      {"HandleSpelling", kRevokeLease, "handle", Spoil<R>([](R& r) { r.set_handle("+1.2.3.4"); })},
      {"RevokeReasonTooLong", kRevokeLease, "reason", Spoil<R>([](R& r) {
         r.set_handle("1.2.3.4");
         r.set_reason(Times(1025));
       })},
      {"ExplainKeyEmpty", kExplainSession, "key", Spoil<E>([](E& r) { r.set_key(""); })},
      {"ExplainNamespace", kExplainSession, "namespace", Spoil<E>([](E& r) {
         r.set_key("a");
         r.set_namespace_("a b");
       })},
      {"DrainNamespace", kDrain, "namespace", Spoil<D>([](D& r) { r.set_namespace_("a b"); })},
      {"UndrainNamespace", kUndrain, "namespace",
       Spoil<pb::UndrainRequest>([](pb::UndrainRequest& r) { r.set_namespace_(Times(64)); })},
  };
}

std::vector<BadInput> AdminInputs() {
  using N = pb::ListNamespacesRequest;
  using D = pb::DeleteNamespaceRequest;
  using G = pb::GetNamespaceRequest;
  return {
      {"NameTooLong", kGetNamespace, "name", Spoil<G>([](G& r) { r.set_name(Times(64)); })},
      {"NameCharacter", kDeleteNamespace, "name", Spoil<D>([](D& r) { r.set_name("a\n"); })},
      {"NameStart", kUpdateNamespace, "name", Spoil<U>([](U& r) { r.set_name("-a"); })},
      {"PageSizeTooBig", kListNamespaces, "page_size",
       Spoil<N>([](N& r) { r.set_page_size(1001); })},
      {"PageTokenMalformed", kListNamespaces, "page_token",
       Spoil<N>([](N& r) { r.set_page_token("default"); })},
      {"PageTokenOfAnotherListing", kListNamespaces, "page_token",
       Spoil<N>([](N& r) { r.set_page_token("czE6MC41"); })},
      {"MaskUnknown", kUpdateNamespace, "update_mask",
       Spoil<U>([](U& r) { r.mutable_update_mask()->add_paths("max_session"); })},
      {"MaskPathTooDeep", kUpdateNamespace, "update_mask",
       Spoil<U>([](U& r) { r.mutable_update_mask()->add_paths("idle_ttl.seconds"); })},
      {"MaxSessionsZero", kUpdateNamespace, "config.max_sessions",
       Spoil<U>([](U& r) { r.mutable_config()->set_max_sessions(0); })},
      {"MaxSessionsTooMany", kUpdateNamespace, "config.max_sessions",
       Spoil<U>([](U& r) { r.mutable_config()->set_max_sessions(16'777'217); })},
      {"MaxWaitersTooMany", kUpdateNamespace, "config.max_waiters",
       Spoil<U>([](U& r) { r.mutable_config()->set_max_waiters(1'000'001); })},
      {"IdleTtlNegative", kUpdateNamespace, "config.idle_ttl",
       Spoil<U>([](U& r) { r.mutable_config()->mutable_idle_ttl()->set_seconds(-1); })},
      {"IdleTtlTooLong", kUpdateNamespace, "config.idle_ttl",
       Spoil<U>([](U& r) { r.mutable_config()->mutable_idle_ttl()->set_seconds(400'000'000); })},
      {"IdleTtlBeyondInt64", kUpdateNamespace, "config.idle_ttl", Spoil<U>([](U& r) {
         r.mutable_config()->mutable_idle_ttl()->set_seconds(315'576'000'000);
       })},
      {"MaxLifetimeNegative", kUpdateNamespace, "config.max_lifetime",
       Spoil<U>([](U& r) { r.mutable_config()->mutable_max_lifetime()->set_nanos(-1); })},
      {"LeaseTtlTooShort", kUpdateNamespace, "config.default_lease_ttl",
       Spoil<U>([](U& r) { r.mutable_config()->mutable_default_lease_ttl()->set_nanos(1); })},
      {"MaxLeaseTtlTooLong", kUpdateNamespace, "config.max_lease_ttl",
       Spoil<U>([](U& r) { r.mutable_config()->mutable_max_lease_ttl()->set_seconds(601); })},
      {"MaxHoldMalformed", kUpdateNamespace, "config.max_hold",
       Spoil<U>([](U& r) { r.mutable_config()->mutable_max_hold()->set_nanos(1'000'000'000); })},
      {"InitTimeoutNegative", kUpdateNamespace, "config.init_timeout",
       Spoil<U>([](U& r) { r.mutable_config()->mutable_init_timeout()->set_seconds(-1); })},
      {"WaitTimeoutTooLong", kUpdateNamespace, "config.default_wait_timeout", Spoil<U>([](U& r) {
         r.mutable_config()->mutable_default_wait_timeout()->set_seconds(3601);
       })},
      {"RetentionNegative", kUpdateNamespace, "config.suspended_retention",
       Spoil<U>([](U& r) { r.mutable_config()->mutable_suspended_retention()->set_seconds(-1); })},
      {"CheckpointBytesTooMany", kUpdateNamespace, "config.max_checkpoint_bytes",
       Spoil<U>([](U& r) { r.mutable_config()->set_max_checkpoint_bytes((1 << 20) + 1); })},
      {"IdlePolicyUnknown", kUpdateNamespace, "config.idle_policy",
       Spoil<U>([](U& r) { r.mutable_config()->set_idle_policy(static_cast<pb::IdlePolicy>(4)); })},
  };
}

}  // namespace broker
