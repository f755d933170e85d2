// Holds many sessions at once, as a gateway does that has one for each of its users. One client for
// all of them: one thread renews all pins, up to a thousand in a request.
//
//     example_many_pins BROKER COUNT SECONDS

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"

namespace {

using sessionbroker::Client;
using sessionbroker::Loss;
using sessionbroker::PinnedSession;

absl::StatusOr<PinnedSession> Pin(Client& client, const std::string& key) {
  absl::StatusOr<PinnedSession> pin =
      client.Acquire({.key = key, .lease_ttl = std::chrono::minutes(1)});
  if (pin.ok() && pin->must_initialize()) {
    if (absl::Status status = pin->Activate("in this process"); !status.ok()) return status;
  }
  return pin;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: example_many_pins BROKER COUNT SECONDS\n";
    return 2;
  }
  const size_t count = std::strtoul(argv[2], nullptr, 10);
  std::atomic<int> lost = 0;
  Client client(argv[1]);
  std::vector<PinnedSession> pins;  // After the client, which must outlive them.
  while (pins.size() < count) {
    absl::StatusOr<PinnedSession> pin = Pin(client, absl::StrCat("user-", pins.size()));
    if (!pin.ok()) {
      std::cerr << pin.status().message() << "\n";
      return 1;
    }
    pin->OnLost([&lost](const Loss&) { ++lost; });
    pins.push_back(*std::move(pin));
  }
  std::cout << "holding " << pins.size() << "\n" << std::flush;
  std::this_thread::sleep_for(std::chrono::seconds(std::strtoul(argv[3], nullptr, 10)));

  int released = 0;
  for (PinnedSession& pin : pins) released += pin.Release().ok();
  std::cout << "released " << released << ", lost " << lost << "\n";
  return lost == 0 ? 0 : 1;
}
