// Work that must not overlap with anybody else's: an exclusive pin, and a resource that checks the
// fencing token.
//
// A lease alone is not enough. Its holder may be asleep (paused, swapped out, stopped) from before
// it lapses until after somebody else got it, and then take one more step. lost() before each step
// makes that unlikely; the token makes it harmless, because the resource refuses an older one.
//
//     example_exclusive BROKER KEY STEPS

#include <cstdint>
#include <cstdlib>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"

namespace {

using sessionbroker::Client;
using sessionbroker::Loss;
using sessionbroker::PinnedSession;

// Stands for the resource: a database row, an object in a store, a device.
class Ledger {
 public:
  absl::Status Append(uint64_t token, int entry) {
    if (token < highest_token_) {
      return absl::FailedPreconditionError(absl::StrCat("token ", token, " is out of date"));
    }
    highest_token_ = token;
    std::cout << "entry " << entry << "\n";
    return absl::OkStatus();
  }

 private:
  uint64_t highest_token_ = 0;  // Kept with the data, and changed in one step with it.
};

absl::Status Work(PinnedSession& pin, Ledger& ledger, int steps) {
  // Runs on the thread that renews all pins: says so, or sets a flag, and returns at once.
  pin.OnLost([](const Loss& loss) { std::cerr << "lost: " << loss.ToString() << "\n"; });
  for (int step = 1; step <= steps; ++step) {
    if (pin.lost()) return absl::AbortedError("the pin was lost; nothing more is written");
    if (absl::Status status = ledger.Append(pin.fencing_token(), step); !status.ok()) return status;
  }
  // LEASE_LOST if somebody else may have been there meanwhile.
  return pin.Release();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: example_exclusive BROKER KEY STEPS\n";
    return 2;
  }
  Ledger ledger;
  Client client(argv[1]);
  const absl::Status status = client.WithSession(
      {.key = argv[2],
       .mode = sessionbroker::v1::PIN_MODE_EXCLUSIVE,
       .wait_timeout = std::chrono::minutes(1)},  // For those who came before.
      [](PinnedSession&) -> absl::StatusOr<std::string> { return "ledger"; },
      [&](PinnedSession& pin) { return Work(pin, ledger, std::atoi(argv[3])); });
  if (status.ok()) return 0;
  std::cerr << status.message() << "\n";
  return 1;
}
