#include "server/metrics/metrics_server.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/exposition.h"
#include "tests/support/http_get.h"

namespace broker {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::StartsWith;

// One namespace whose number of leases is the number of times it was asked.
class CountingSource final : public MetricsSource {
 public:
  BrokerSample Sample() override {
    NamespaceSample ns;
    ns.name = "default";
    ns.leases = ++samples;
    ns.acquire_waits = {.bounds = {1}, .counts = {0, 0}, .sum = 0};
    ns.events_published = {{"created", 0}};
    BrokerSample sample;
    sample.namespaces = {ns};
    sample.streams_ended = {{"cancelled", 0}};
    sample.rpc_methods = {
        {"unary", "Service", "Method", 0, {{"OK", 0}}, {.bounds = {1}, .counts = {0, 0}}}};
    sample.pipeline_methods = {{"Method", {{"OK", 0}}}};
    sample.store.emplace();
    sample.store->commit_seconds =
        sample.store->commit_groups = {.bounds = {1}, .counts = {0, 0}, .sum = 0};
    sample.store->write_failures = {{"full", 0}};
    return sample;
  }

  std::atomic<int> samples = 0;
};

std::unique_ptr<MetricsServer> StartOnFreePort(MetricsSource& source) {
  auto server = MetricsServer::Start("127.0.0.1:0", "1.2.3", source);
  EXPECT_EQ(server.status(), absl::OkStatus());
  return *std::move(server);
}

Exposition Scrape(const MetricsServer& server) {
  const std::string response = HttpGet(server.port(), "/metrics");
  return Exposition(response.substr(response.find("\r\n\r\n") + 4));
}

TEST(MetricsServerTest, EveryScrapeAsksTheSourceAnew) {
  CountingSource source;
  const auto server = StartOnFreePort(source);

  EXPECT_THAT(Scrape(*server).values,
              Contains(Pair("sessionbroker_leases{namespace=\"default\"}", 1)));
  EXPECT_THAT(Scrape(*server).values,
              Contains(Pair("sessionbroker_leases{namespace=\"default\"}", 2)));
}

TEST(MetricsServerTest, ScrapeIsReadableAndHoldsVersionAndProcess) {
  CountingSource source;
  const auto server = StartOnFreePort(source);

  const Exposition scrape = Scrape(*server);

  EXPECT_THAT(scrape.problems, IsEmpty());
  EXPECT_EQ(scrape.values.at("sessionbroker_build_info{version=\"1.2.3\"}"), 1);
  EXPECT_GT(scrape.values.at("process_resident_memory_bytes"), 0);
}

TEST(MetricsServerTest, NothingElseIsServed) {
  CountingSource source;
  const auto server = StartOnFreePort(source);

  EXPECT_THAT(HttpGet(server->port(), "/"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(HttpGet(server->port(), "/etc/passwd"), StartsWith("HTTP/1.1 404"));
}

TEST(MetricsServerTest, NobodyAnswersOnceItIsGone) {
  CountingSource source;
  auto server = StartOnFreePort(source);
  const int port = server->port();

  server.reset();

  EXPECT_EQ(HttpGet(port, "/metrics"), "");
}

TEST(MetricsServerTest, PortThatIsTakenIsSaidSo) {
  CountingSource source;
  const auto server = StartOnFreePort(source);
  const std::string address = absl::StrCat("127.0.0.1:", server->port());

  const auto second = MetricsServer::Start(address, "1.2.3", source);

  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              AllOf(HasSubstr(address), HasSubstr("Address already in use")));
}

TEST(MetricsServerTest, WhatIsNoAddressIsRefused) {
  CountingSource source;
  for (const char* address :
       {"", "7401", ":7401", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
        "127.0.0.1: 1", "127.0.0.1:0s", "127.0.0.1:0r", "127.0.0.1:0,127.0.0.1:0", "[::1]:0"}) {
    const auto server = MetricsServer::Start(address, "1.2.3", source);
    EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_THAT(std::string(server.status().message()),
                HasSubstr(absl::StrCat("\"", address, "\" is not ADDR:PORT")));
  }
}

// The rows of the tables in METRICS.md, "name type labels", in order of name.
std::vector<std::string> DocumentedSeries() {
  const char* path = std::getenv("METRICS_MD");
  if (path == nullptr) {
    ADD_FAILURE() << "METRICS_MD must name docs/METRICS.md; ctest sets it";
    return {};
  }
  std::ifstream file(path);
  std::vector<std::string> rows;
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, "| `")) continue;
    line.erase(std::remove(line.begin(), line.end(), '`'), line.end());
    std::vector<std::string> cells = absl::StrSplit(line, '|');
    if (cells.size() != 7) {
      ADD_FAILURE() << "not five columns: " << line;
      continue;
    }
    for (std::string& cell : cells) absl::StripAsciiWhitespace(&cell);
    std::vector<std::string> labels = absl::StrSplit(cells[3], ", ", absl::SkipEmpty());
    std::sort(labels.begin(), labels.end());
    rows.push_back(absl::StrCat(cells[1], " ", cells[2], " ", absl::StrJoin(labels, ",")));
  }
  std::sort(rows.begin(), rows.end());
  return rows;
}

TEST(MetricsServerTest, MetricsMdListsExactlyWhatAScrapeShows) {
  CountingSource source;
  const auto server = StartOnFreePort(source);
  Scrape(*server);  // The library counts scrapes, from the second one on.

  std::vector<std::string> shown;
  for (const auto& [name, family] : Scrape(*server).families) {
    shown.push_back(absl::StrCat(name, " ", family.type, " ", absl::StrJoin(family.labels, ",")));
  }

  EXPECT_THAT(DocumentedSeries(), ElementsAreArray(shown));
}

}  // namespace
}  // namespace broker
