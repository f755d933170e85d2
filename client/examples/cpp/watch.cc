// Tells what becomes of a session until it ends. A stream that breaks is resumed by itself, without
// losing or repeating an event.
//
//     example_watch BROKER KEY

#include <future>
#include <iostream>
#include <string>
#include <variant>

#include "client/cpp/client.h"

namespace {

namespace v1 = sessionbroker::v1;
using sessionbroker::Client;
using sessionbroker::WatchEvent;

void Tell(const v1::Session& session, const std::string& what) {
  std::cout << session.key() << " " << session.generation() << " " << what << "\n" << std::flush;
}

void OnEvent(const WatchEvent& event) {
  if (const auto* sessions = std::get_if<sessionbroker::WatchInitial>(&event)) {
    for (const v1::Session& session : sessions->sessions()) {
      Tell(session, v1::SessionState_Name(session.state()));
    }
  } else if (const auto* change = std::get_if<v1::Event>(&event)) {
    Tell(change->session(), v1::EventType_Name(change->type()));
  } else if (std::holds_alternative<sessionbroker::WatchGap>(event)) {
    std::cout << "events were missed; starting over\n" << std::flush;
  }
  // WatchSynced and WatchInterrupted tell how the connection is.
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: example_watch BROKER KEY\n";
    return 2;
  }
  Client client(argv[1]);
  std::promise<absl::Status> ended;
  // The watch goes on while this lives, on threads of gRPC: callbacks must not block for long.
  const sessionbroker::Watcher watcher =
      client.Watch({.keys = {argv[2]}},
                   {.initial_state = true,
                    .finish_at_end = true,
                    .on_end = [&](const absl::Status& status) { ended.set_value(status); }},
                   OnEvent);
  const absl::Status status = ended.get_future().get();
  if (status.ok()) return 0;
  std::cerr << status.message() << "\n";
  return 1;
}
