#include "client/cli/context.h"

#include "client/cpp/channel.h"

namespace sessionbroker::cli {

BrokerStub Context::Connect() const {
  // A command makes one call, or one at a time: to open a stream for it would only cost time.
  return BrokerStub(MakeChannel(endpoint), retry(), /*seed=*/0, /*pipeline=*/false);
}

}  // namespace sessionbroker::cli
