#include "server/broker/lease_mint.h"

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace broker {
namespace {

constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

LeaseRef SomeLease() {
  LeaseRef lease{.namespace_id = 0x01020304, .shard = 255, .slot = 0xfffffffe};
  lease.sequence = (uint64_t{1} << 53) - 1;
  lease.generation = (uint64_t{1} << 53) - 2;
  lease.ttl_ms = 600'000;
  lease.mode = PinMode::kExclusive;
  return lease;
}

class LeaseMintTest : public ::testing::Test {
 protected:
  const LeaseMint mint_{"0123456789abcdef"};
};

TEST_F(LeaseMintTest, IdNamesTheLeaseItWasMadeFrom) {
  EXPECT_EQ(mint_.Read(mint_.Mint(SomeLease())), SomeLease());
  EXPECT_EQ(mint_.Read(mint_.Mint(LeaseRef())), LeaseRef());
}

TEST_F(LeaseMintTest, IdIsBase64UrlOfAtMostEightyCharacters) {
  const std::string id = mint_.Mint(SomeLease());

  EXPECT_EQ(id.size(), 60u);
  EXPECT_EQ(id.find_first_not_of(kAlphabet), std::string::npos);
}

TEST_F(LeaseMintTest, EveryOtherLengthIsMalformed) {
  const std::string id = mint_.Mint(SomeLease());

  for (size_t length = 0; length < id.size(); ++length) {
    EXPECT_FALSE(mint_.Read(id.substr(0, length)).has_value()) << length;
  }
  EXPECT_FALSE(mint_.Read(id + "A").has_value());
  EXPECT_FALSE(mint_.Read(id + "=").has_value());
}

TEST_F(LeaseMintTest, EveryOtherAlphabetIsMalformed) {
  for (char wrong : {'+', '/', '=', ' ', '\n', '\0', '.', '\xff'}) {
    std::string id = mint_.Mint(SomeLease());
    id[20] = wrong;
    EXPECT_FALSE(mint_.Read(id).has_value()) << static_cast<int>(wrong);
  }
}

TEST_F(LeaseMintTest, EveryOtherVersionIsMalformed) {
  std::string id = mint_.Mint(SomeLease());
  id[0] = 'B';
  EXPECT_FALSE(mint_.Read(id).has_value());
}

TEST_F(LeaseMintTest, WhatWasChangedNamesNoLease) {  // B04
  const std::string id = mint_.Mint(SomeLease());
  for (size_t i = 2; i < id.size(); ++i) {  // The first two say the version.
    for (char other : std::string(kAlphabet)) {
      if (other == id[i]) continue;
      std::string changed = id;
      changed[i] = other;
      const std::optional<LeaseRef> read = mint_.Read(changed);
      ASSERT_TRUE(!read.has_value() || *read == LeaseRef()) << changed;
    }
  }
}

TEST_F(LeaseMintTest, IdOfAnotherKeyNamesNoLease) {  // B04
  const LeaseMint other("fedcba9876543210");
  const auto random = LeaseMint::WithRandomKey();

  EXPECT_EQ(other.Read(mint_.Mint(SomeLease())), LeaseRef());
  EXPECT_EQ(random->Read(mint_.Mint(SomeLease())), LeaseRef());
  EXPECT_EQ(mint_.Read(random->Mint(SomeLease())), LeaseRef());
  EXPECT_EQ(random->Read(random->Mint(SomeLease())), SomeLease());
}

TEST_F(LeaseMintTest, SameKeyReadsWhatAnotherMintMade) {  // G02
  const LeaseMint next_life("0123456789abcdef, and more that is not used");
  EXPECT_EQ(next_life.Read(mint_.Mint(SomeLease())), SomeLease());
}

TEST_F(LeaseMintTest, MacIsTheCipherBlockChainOfItsFields) {
  // Made with `openssl enc -aes-128-cbc -nopad` over the 29 bytes and three zeros, IV zero: the
  // last block.
  LeaseRef lease{.namespace_id = 1, .shard = 2, .slot = 3};
  lease.sequence = 4;
  lease.generation = 5;
  lease.ttl_ms = 30'000;
  EXPECT_EQ(mint_.Mint(lease), "AgAAAAABAgAAAAMAAAAAAAAEAAAAAAAABQAAdTCXbUB6WQLcjDMAwuZbjUVt");
}

TEST_F(LeaseMintTest, ThreadsDoNotDisturbEachOther) {
  const LeaseMint other("fedcba9876543210");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (uint64_t sequence = 0; sequence < 2000; ++sequence) {
        LeaseRef lease = SomeLease();
        lease.sequence = sequence;
        const LeaseMint& mint = (sequence + i) % 2 == 0 ? mint_ : other;
        ASSERT_EQ(mint.Read(mint.Mint(lease)), lease);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace broker
