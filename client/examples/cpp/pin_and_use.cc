// Uses a session, and builds it if nobody has: what most programs need of the broker.
//
//     example_pin_and_use BROKER KEY

#include <iostream>
#include <string>

#include "client/cpp/client.h"

namespace {

using sessionbroker::Client;
using sessionbroker::GetErrorDetails;
using sessionbroker::PinnedSession;

// Starts the expensive thing, a browser say, and returns where it is reached. Called only by the
// one who is told to; everybody else waits for it.
absl::StatusOr<std::string> StartBrowser(PinnedSession& pin) {
  if (pin.displaced() != nullptr) {
    // Its slot is ours: shut its browser down, if that is up to us.
    std::cout << "took the slot of " << pin.displaced()->key() << "\n";
  }
  std::cout << "starting " << pin.key() << "\n";
  return "127.0.0.1:9222";  // An error here is told to all who wait.
}

// While this runs the session is pinned: nothing but End takes it away.
absl::Status Browse(PinnedSession& pin) {
  std::cout << "using " << pin.key() << " at " << pin.endpoint() << "\n";
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: example_pin_and_use BROKER KEY\n";
    return 2;
  }
  Client client(argv[1]);
  const absl::Status status = client.WithSession(argv[2], StartBrowser, Browse);
  if (status.ok()) return 0;
  std::cerr << GetErrorDetails(status).reason << ": " << status.message() << "\n";
  return 1;
}
