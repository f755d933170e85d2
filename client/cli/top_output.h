#pragma once

#include <cstddef>
#include <string>

#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker::cli {

// The busiest first: by the share of max_sessions that is used, then by waiters, leases and name.
void SortByUse(v1::ListNamespacesResponse& response);

// Sums in a line, then a table with a row a namespace, in the order they are given.
std::string FormatTop(const v1::ListNamespacesResponse& response);

// `text` for a screen of that size: lines cut to `columns` characters, and the last of `rows` says
// how many more there are if they do not fit.
std::string FitScreen(const std::string& text, size_t rows, size_t columns);

}  // namespace sessionbroker::cli
