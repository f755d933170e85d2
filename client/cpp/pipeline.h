#pragma once

#include <grpcpp/completion_queue.h>
#include <grpcpp/impl/codegen/channel_interface.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "client/cpp/pipeline_queue.h"
#include "client/cpp/pipeline_stream.h"
#include "client/cpp/pipeline_switch.h"
#include "client/cpp/time_types.h"
#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker {

// What became of a call that was made over a Pipeline.
struct PipelineOutcome {
  enum class Kind {
    kAnswered,  // `result` has the answer, or the broker's error.
    kFailed,    // `error`. It may have been carried out, unless it is UNAVAILABLE of a broker that
                // was not reached.
    kUnary,     // It was not carried out and is to be made as a unary call, now.
  };

  Kind kind = Kind::kUnary;
  v1::PipelineResult result = {};
  absl::Status error = {};
  // With kFailed: if it is made again, then as a unary call. It may be this call that the stream
  // ended for, and then it would end every other one as well, with all calls on it.
  bool unary_next = false;
};

// Many calls on one stream: whoever calls while the stream is idle writes its message at once;
// calls that come while a message is being written gather, and go out together as the next one when
// that is done (PipelineQueue has the limits). So nothing waits for company, and the more calls
// there are, the more of them share a message.
//
// One stream at a time:
//
//   none ------> starting   somebody calls
//   starting --> open       it goes to the wire
//   starting --> none       the broker was not reached: the calls that gathered fail
//   open ------> none       it broke: calls that were written fail, the others start the next one
//   either ----> off        it ended without a result in a way that PipelineSwitch takes for that
//                           of a broker, or of a proxy, that does not carry streams: calls that
//                           were not written are to be made as unary ones, and those that come
//   off -------> none       after a time
//
// Refused, as far as no result has come on it, is a stream that ends with UNIMPLEMENTED (a broker
// of before Pipeline, or a proxy in front of it) or STREAM_LIMIT: none of its calls was carried out
// (kUnary). Not with UNAUTHENTICATED or PERMISSION_DENIED: the proxy that says so may have passed
// on what it had read by then.
//
// A call that was written when its stream broke fails with what a unary call would get
// (UNAVAILABLE), and whether it is made again is up to its caller. INVALID_ARGUMENT says that the
// broker could not read a message: of the last one that was written nothing was carried out
// (kUnary); the others may have been. A stream that brings what cannot be read is cancelled, and
// broke.
//
// A stream on which calls end at their deadlines, and nothing at all comes for 5 s after the first,
// is cancelled, and broke: the broker answers every call, in the end with an error. It need not be
// the connection, which gRPC would see to: behind a proxy that may be alive and well.
//
// Who waits sees to what gRPC brings: one of them (the leader) polls, tells the others theirs, and
// when it has its own hands the lead to one that still waits. So a call that is alone passes
// through no other thread, as a unary one, and unlike with gRPC's callbacks, whose threads also
// sleep 100 ms at a time after a second without events (1.51). While there is a stream and nobody
// waits a thread looks ten times a second, so that a stream that broke meanwhile is not taken for a
// good one, and for leases that come late.
//
// Thread-safe. Destroy it when nobody is in Call().
class Pipeline {
 public:
  static constexpr Duration kLongestSilence = std::chrono::seconds(5);

  // `longest_silence` is for tests. Calls of gRPC's are started under a lock: interceptors of the
  // channel must not come back here.
  explicit Pipeline(const std::shared_ptr<grpc::ChannelInterface>& channel,
                    Duration longest_silence = kLongestSilence);
  // Cancels the stream and waits until gRPC is through with it, which needs nobody's answer.
  ~Pipeline();

  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  // Calls that are larger are not for a Pipeline: to share a message gains them nothing, and those
  // behind them would wait.
  static constexpr size_t kMaxCallBytes = 64 * 1024;

  // Makes the call and waits for it, at most until `deadline`: then it fails with DEADLINE_EXCEEDED
  // and the broker is told to cancel it. Its id and timeout are set here.
  //
  // `give_back_late`: a lease that comes all the same, because the broker granted it first, is
  // released. Otherwise it is left to its ttl, or to a repetition with its request_id.
  PipelineOutcome Call(v1::PipelineCall call, TimePoint deadline, bool give_back_late);

  struct Load {
    size_t calls = 0;     // That are not answered.
    size_t gathered = 0;  // What is not being written yet, of them and of what follows calls.
    bool writing = false;
  };
  Load load();

 private:
  using Lock = std::unique_lock<std::mutex>;
  class Waiter;
  struct PendingCall {
    std::shared_ptr<Waiter> waiter;
    uint64_t message = 0;  // Of its stream, from 1; 0: it was not taken for one yet.
  };
  struct Told {
    std::shared_ptr<Waiter> waiter;
    PipelineOutcome outcome;
  };

  // A new id for a call. Odd if its late lease is given back.
  uint64_t NewId(bool give_back_late);
  // Nobody waits for it any more. False if its waiter is told, was, or is about to be.
  bool GiveUp(uint64_t id);
  // Opens a stream if there is none, or begins to write what has gathered; nothing where neither
  // can be done now. Whoever cannot be served now is when the stream is open, or the write is done.
  // Returns with `lock` unlocked.
  void Flush(Lock& lock);
  void OpenLocked();
  // Cancels the stream if it is silent for too long.
  void CutOffSilentLocked(TimePoint now);

  // What follows is for who has the lead only.

  // Waits for what gRPC brings next and sees to it; false if there is nothing until then.
  bool Poll(TimePoint until);
  // To somebody who waits; if there is nobody, who calls next takes it.
  void HandOverLead();
  void OnStarted(PipelineStream& stream, bool ok);
  void OnRead(PipelineStream& stream, bool ok);
  void OnWritten(PipelineStream& stream, bool ok);
  void OnFinished(PipelineStream& stream);
  // Hands each result to whoever waits for it.
  void Deliver(PipelineStream& stream);
  // Ends the calls of a stream that is over, as the state machine says; returns who is to be told.
  std::vector<Told> EndCallsLocked(const PipelineStream& stream);
  void RemoveLocked(PipelineStream& stream);

  // The thread. It is started before the first stream; false, and calls are unary for a while, if
  // the system has none to give.
  bool StartThreadLocked(TimePoint now);
  void LookWhileIdle();

  const Duration longest_silence_;
  PipelineStub stub_;
  grpc::CompletionQueue queue_;
  std::atomic<uint64_t> last_number_ = 0;  // What ids are made of.
  std::vector<Told> told_;                 // The leader's own, kept for its memory.

  std::mutex mu_;     // Guards all that follows. A Waiter's lock comes after it.
  bool led_ = false;  // Somebody has the lead.
  absl::flat_hash_map<uint64_t, PendingCall> calls_;  // By id, those that are not answered.
  PipelineQueue outgoing_;
  PipelineStream* stream_ = nullptr;  // The one that calls go to, if there is one.
  // That and those that gRPC is not through with.
  std::vector<std::unique_ptr<PipelineStream>> streams_;
  PipelineSwitch switch_;
  bool stopping_ = false;
  std::condition_variable wake_;  // The thread.
  std::thread thread_;            // Runs from the first call on.
};

}  // namespace sessionbroker
