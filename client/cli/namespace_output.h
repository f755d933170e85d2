#pragma once

#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker::cli {

// Limits and use of a namespace, a row each, on stdout. The limits go by the names of the flags
// that set them.
void PrintNamespace(const v1::Namespace& entry);

}  // namespace sessionbroker::cli
