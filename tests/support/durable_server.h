#pragma once

#include <memory>
#include <utility>

#include "gtest/gtest.h"
#include "server/rpc/store_health.h"
#include "server/store/sqlite_journal.h"
#include "tests/support/broker_server.h"
#include "tests/support/faulty_journal.h"
#include "tests/support/session_calls.h"
#include "tests/support/temp_dir.h"

namespace broker {

// A broker inside the test that keeps its sessions in a real database, on a disk that a test can
// hold up or let fail.
class DurableServer {
 public:
  FaultyJournal& disk() { return disk_; }
  BrokerServer& server() { return server_; }
  SessionCalls& calls() { return calls_; }

 private:
  static std::unique_ptr<Journal> Open(const std::string& path) {
    SqliteJournalOptions options;
    options.path = path;
    absl::StatusOr<std::unique_ptr<Journal>> journal = OpenSqliteJournal(options);
    EXPECT_TRUE(journal.ok()) << journal.status();
    return *std::move(journal);
  }
  static Broker::Options OptionsWith(Journal& journal) {
    Broker::Options options;
    options.journal = &journal;
    return options;
  }
  static RpcServer::Options OptionsWith(StoreHealth& health) {
    RpcServer::Options options;
    options.store_health = &health;
    return options;
  }

  TempDir directory_;
  FaultyJournal disk_{Open(directory_ / "sessions.db")};
  StoreHealth health_{disk_};
  BrokerServer server_{OptionsWith(disk_), OptionsWith(health_)};
  SessionCalls calls_{server_.channel()};
};

}  // namespace broker
