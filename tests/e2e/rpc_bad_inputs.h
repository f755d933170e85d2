#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

namespace broker {

// The leases that a broker has given out for the bad inputs to go with.
struct HeldLeases {
  std::string active;        // A pin on a session that is up.
  std::string initializing;  // The initializer of another.
};

// One request that must be refused.
struct BadInput {
  const char* name;
  const char* method;  // "Service/Method"
  std::string field;   // That is to blame.
  // What is sent, encoded.
  std::function<std::string(const HeldLeases&)> request;
};

inline void PrintTo(const BadInput& input, std::ostream* out) { *out << input.name; }

// The table, one part for each kind of request.
std::vector<BadInput> AcquireInputs();
std::vector<BadInput> LeaseInputs();
std::vector<BadInput> SessionInputs();
std::vector<BadInput> SubscribeInputs();
std::vector<BadInput> AdminInputs();
std::vector<BadInput> OperatorInputs();

}  // namespace broker
