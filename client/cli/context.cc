#include "client/cli/context.h"

#include "client/cpp/channel.h"

namespace sessionbroker::cli {

BrokerStub Context::Connect() const { return BrokerStub(MakeChannel(endpoint), retry()); }

}  // namespace sessionbroker::cli
