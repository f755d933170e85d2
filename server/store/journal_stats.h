#pragma once

#include <array>
#include <cstdint>

namespace broker {

// Why a write failed.
enum class StoreFailure : uint8_t {
  kFull,     // No space left.
  kIo,       // Reading or writing failed.
  kSync,     // fsync failed.
  kCorrupt,  // What is on disk is not what was written.
  kRefused,  // Not tried: the journal is unhealthy, closed, or too much is pending.
  kOther,
};
inline constexpr int kStoreFailureCount = 6;

inline constexpr std::array<double, 12> kCommitBounds = {
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1, 10};
inline constexpr std::array<double, 10> kBatchBounds = {1, 2, 4, 8, 16, 32, 64, 128, 256, 1024};

// Since the journal was opened. Histograms: counts[i] is of values up to the bound i and above the
// one before; the last is of all that were larger.
struct JournalStats {
  uint64_t commits = 0;
  uint64_t groups = 0;  // That were committed.
  std::array<uint64_t, kCommitBounds.size() + 1> commit_seconds{};
  double commit_seconds_sum = 0;
  std::array<uint64_t, kBatchBounds.size() + 1> batch_groups{};
  std::array<uint64_t, kStoreFailureCount> failures{};  // Groups, by StoreFailure.
  uint64_t reads = 0;
  uint64_t reads_failed = 0;
  uint64_t pending_writes = 0;
  uint64_t pending_bytes = 0;
  uint64_t bytes = 0;  // That the journal takes on disk.
  // Times that the log could not be copied to where it belongs: it grows meanwhile.
  uint64_t failed_copies = 0;
};

}  // namespace broker
