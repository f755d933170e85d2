#include "server/broker/lease_id.h"

#include <set>
#include <string>

#include "gtest/gtest.h"
#include "server/broker/secret_source.h"

namespace broker {
namespace {

LeaseRef SomeLease() {
  LeaseRef lease{.namespace_id = 0x01020304, .shard = 255, .slot = 0xfffffffe};
  lease.sequence = (uint64_t{1} << 53) - 1;
  for (size_t i = 0; i < lease.secret.size(); ++i) lease.secret[i] = static_cast<uint8_t>(17 * i);
  return lease;
}

TEST(LeaseIdTest, IdNamesTheLeaseItWasMadeFrom) {
  EXPECT_EQ(ParseLeaseId(FormatLeaseId(SomeLease())), SomeLease());
  EXPECT_EQ(ParseLeaseId(FormatLeaseId(LeaseRef())), LeaseRef());
}

TEST(LeaseIdTest, IdIsBase64UrlOfAtMostEightyCharacters) {
  const std::string id = FormatLeaseId(SomeLease());

  EXPECT_EQ(id.size(), 47u);
  EXPECT_EQ(
      id.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
      std::string::npos);
}

TEST(LeaseIdTest, EveryOtherLengthIsMalformed) {
  const std::string id = FormatLeaseId(SomeLease());

  for (size_t length = 0; length < id.size(); ++length) {
    EXPECT_FALSE(ParseLeaseId(id.substr(0, length)).has_value()) << length;
  }
  EXPECT_FALSE(ParseLeaseId(id + "A").has_value());
  EXPECT_FALSE(ParseLeaseId(id + "=").has_value());
}

TEST(LeaseIdTest, EveryOtherAlphabetIsMalformed) {
  for (char wrong : {'+', '/', '=', ' ', '\n', '\0', '.', '\xff'}) {
    std::string id = FormatLeaseId(SomeLease());
    id[20] = wrong;
    EXPECT_FALSE(ParseLeaseId(id).has_value()) << static_cast<int>(wrong);
  }
}

TEST(LeaseIdTest, EveryOtherVersionIsMalformed) {
  std::string id = FormatLeaseId(SomeLease());
  id[0] = 'B';
  EXPECT_FALSE(ParseLeaseId(id).has_value());
}

TEST(LeaseIdTest, NoTwoIdsNameTheSameLease) {
  const std::string id = FormatLeaseId(SomeLease());
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  for (size_t i = 0; i < id.size(); ++i) {
    for (char other : alphabet) {
      if (other == id[i]) continue;
      std::string changed = id;
      changed[i] = other;
      EXPECT_NE(ParseLeaseId(changed), SomeLease()) << changed;
    }
  }
}

TEST(SecretSourceTest, NoSecretIsGivenOutTwice) {  // B04
  SecretSource source;
  std::set<LeaseSecret> secrets;
  for (int i = 0; i < 2000; ++i) EXPECT_TRUE(secrets.insert(source.Next()).second);
}

TEST(SecretSourceTest, EveryBitOfASecretIsRandom) {  // B04
  SecretSource source;
  LeaseSecret ones{}, zeros{};
  for (int i = 0; i < 200; ++i) {
    const LeaseSecret secret = source.Next();
    for (size_t byte = 0; byte < secret.size(); ++byte) {
      ones[byte] |= secret[byte];
      zeros[byte] |= ~secret[byte];
    }
  }
  for (size_t byte = 0; byte < ones.size(); ++byte) {
    EXPECT_EQ(ones[byte], 0xff);
    EXPECT_EQ(zeros[byte], 0xff);
  }
}

}  // namespace
}  // namespace broker
