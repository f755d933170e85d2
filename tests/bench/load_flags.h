#pragma once

#include <optional>

#include "tests/bench/load_options.h"

namespace broker {

struct ParsedLoadFlags {
  LoadOptions options;
  std::optional<int> exit_code;  // Set if there is nothing to run: --help, or wrong flags.
};

ParsedLoadFlags ParseLoadFlags(int argc, char** argv);

}  // namespace broker
