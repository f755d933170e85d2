// A session that outlives its resource: its initializer restores what the last checkpoint holds.
// The resource is a file with a number in it, which every run counts up; remove the file (or let
// the broker suspend the session) and the count goes on all the same.
//
//     example_restore BROKER KEY FILE
//
// The broker must have a data directory.

#include <fstream>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"

namespace {

using sessionbroker::Client;
using sessionbroker::PinnedSession;

// What is lost with the resource, and what is built anew from a checkpoint.
absl::StatusOr<std::string> Restore(PinnedSession& pin, const std::string& file) {
  const std::string number = pin.checkpoint() == nullptr ? "0" : pin.checkpoint()->data();
  // reset(): there was one before; what it held beyond the checkpoint is gone.
  std::cout << (pin.reset() ? "restoring " : "starting at ") << number << "\n";
  std::ofstream(file) << number;
  return file;
}

absl::Status CountUp(PinnedSession& pin) {
  int number = 0;
  if (!(std::ifstream(pin.endpoint()) >> number)) {
    // The resource is broken, for everybody: the next who asks for the session builds it anew.
    if (absl::Status status = pin.Release(sessionbroker::v1::DISPOSITION_DISCARD); !status.ok()) {
      return status;
    }
    return absl::DataLossError(absl::StrCat(pin.endpoint(), " is gone; run this again"));
  }
  ++number;
  std::ofstream(pin.endpoint()) << number;
  std::cout << "count " << number << "\n";
  // On disk when this returns OK. Without this the count would go back to the last one that was.
  return pin.Checkpoint(absl::StrCat(number));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: example_restore BROKER KEY FILE\n";
    return 2;
  }
  Client client(argv[1]);
  const absl::Status status = client.WithSession(
      // Alone, because counting up takes two steps.
      {.key = argv[2], .mode = sessionbroker::v1::PIN_MODE_EXCLUSIVE},
      [&](PinnedSession& pin) { return Restore(pin, argv[3]); }, CountUp);
  if (status.ok()) return 0;
  std::cerr << status.message() << "\n";
  return 1;
}
