#include "server/session/key_fingerprints.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace broker {
namespace {

uint64_t Same(absl::string_view) { return 7; }

TEST(KeyFingerprintsTest, FindsWhatIsInItAndNothingElse) {
  KeyFingerprints keys;
  for (int i = 0; i < 10'000; ++i) keys.Insert(absl::StrCat("key", i));
  for (int i = 0; i < 10'000; i += 2) keys.Erase(absl::StrCat("key", i));
  EXPECT_EQ(keys.size(), 5'000u);
  for (int i = 0; i < 10'000; ++i) EXPECT_EQ(keys.Contains(absl::StrCat("key", i)), i % 2 == 1);
}

TEST(KeyFingerprintsTest, KeysWithTheSameBitsComeAndGoOneByOne) {
  KeyFingerprints keys(&Same);
  for (const char* key : {"a", "b", "c"}) keys.Insert(key);
  keys.Erase("b");
  keys.Erase("a");
  EXPECT_TRUE(keys.Contains("c"));
  EXPECT_EQ(keys.size(), 1u);
  keys.Erase("c");
  EXPECT_FALSE(keys.Contains("c"));
  EXPECT_TRUE(keys.empty());
}

}  // namespace
}  // namespace broker
