#include "server/broker/lease_mint.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <array>
#include <atomic>
#include <cstring>

#include "absl/strings/escaping.h"
#include "server/base/check.h"

namespace broker {
namespace {

constexpr uint8_t kVersion = 2;
constexpr uint8_t kKeyId = 0;  // There is one key. A second one would be another number.
constexpr size_t kFieldBytes = 29;
constexpr size_t kMacBytes = 16;
constexpr size_t kCharacters = (kFieldBytes + kMacBytes) / 3 * 4;
static_assert((kFieldBytes + kMacBytes) % 3 == 0);

using Mac = std::array<uint8_t, kMacBytes>;

using Bytes = std::array<char, kFieldBytes + kMacBytes>;

// Puts the value at `out`, and moves that behind it.
void Put(uint64_t value, int bytes, char*& out) {
  for (int i = bytes - 1; i >= 0; --i) *out++ = static_cast<char>(value >> (8 * i));
}

uint64_t Take(absl::string_view& in, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value = value << 8 | static_cast<uint8_t>(in[i]);
  in.remove_prefix(bytes);
  return value;
}

// A cipher with its key set up: that takes several times as long as the encryption. One a thread,
// because it must not be shared; of the mint that was used last.
struct Cipher {
  EVP_CIPHER_CTX* context = nullptr;
  uint64_t instance = 0;
  ~Cipher() { EVP_CIPHER_CTX_free(context); }
};

EVP_CIPHER_CTX* CipherOf(const std::string& key, uint64_t instance) {
  thread_local Cipher cipher;
  if (cipher.instance == instance) return cipher.context;
  if (cipher.context == nullptr) cipher.context = EVP_CIPHER_CTX_new();
  BROKER_CHECK(cipher.context != nullptr);
  BROKER_CHECK(EVP_EncryptInit_ex(cipher.context, EVP_aes_128_ecb(), nullptr,
                                  reinterpret_cast<const uint8_t*>(key.data()), nullptr) == 1);
  EVP_CIPHER_CTX_set_padding(cipher.context, 0);
  cipher.instance = instance;
  return cipher.context;
}

// Over two blocks: the fields, and zeros behind them.
Mac MacOf(absl::string_view fields, EVP_CIPHER_CTX* cipher) {
  Mac block{}, mac{};
  std::memcpy(block.data(), fields.data(), kMacBytes);
  int length = 0;
  BROKER_CHECK(EVP_EncryptUpdate(cipher, mac.data(), &length, block.data(), kMacBytes) == 1);
  const absl::string_view rest = fields.substr(kMacBytes);
  block = mac;
  for (size_t i = 0; i < rest.size(); ++i) block[i] ^= static_cast<uint8_t>(rest[i]);
  BROKER_CHECK(EVP_EncryptUpdate(cipher, mac.data(), &length, block.data(), kMacBytes) == 1);
  return mac;
}

uint64_t NextInstance() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}

}  // namespace

LeaseMint::LeaseMint(absl::string_view key)
    : key_(key.substr(0, kKeyBytes)), instance_(NextInstance()) {
  BROKER_CHECK(key_.size() == kKeyBytes);
}

std::unique_ptr<LeaseMint> LeaseMint::WithRandomKey() {
  std::array<uint8_t, kKeyBytes> key{};
  BROKER_CHECK(RAND_bytes(key.data(), static_cast<int>(key.size())) == 1);
  return std::make_unique<LeaseMint>(
      absl::string_view(reinterpret_cast<const char*>(key.data()), key.size()));
}

std::string LeaseMint::Mint(const LeaseRef& lease) const {
  Bytes bytes;
  char* out = bytes.data();
  Put(kVersion, 1, out);
  Put(kKeyId, 1, out);
  Put(lease.namespace_id, 4, out);
  Put(lease.shard, 1, out);
  Put(lease.slot, 4, out);
  Put(lease.sequence, 7, out);
  Put(lease.generation, 7, out);
  Put(static_cast<uint64_t>(lease.mode), 1, out);
  Put(lease.ttl_ms, 3, out);
  const Mac mac = MacOf(absl::string_view(bytes.data(), kFieldBytes), CipherOf(key_, instance_));
  std::memcpy(out, mac.data(), mac.size());
  return absl::WebSafeBase64Escape(absl::string_view(bytes.data(), bytes.size()));
}

std::optional<LeaseRef> LeaseMint::Read(absl::string_view lease_id) const {
  thread_local std::string bytes;  // Keeps its memory for the next one.
  // Of 60 characters each stands for six bits of their own: one id has one spelling.
  if (lease_id.size() != kCharacters || !absl::WebSafeBase64Unescape(lease_id, &bytes) ||
      bytes.size() != kFieldBytes + kMacBytes || static_cast<uint8_t>(bytes[0]) != kVersion) {
    return std::nullopt;
  }
  const absl::string_view fields = absl::string_view(bytes).substr(0, kFieldBytes);
  const Mac mac = MacOf(fields, CipherOf(key_, instance_));
  LeaseRef lease;
  if (CRYPTO_memcmp(mac.data(), bytes.data() + kFieldBytes, mac.size()) != 0) return lease;
  absl::string_view rest = fields.substr(2);
  lease.namespace_id = static_cast<uint32_t>(Take(rest, 4));
  lease.shard = static_cast<uint32_t>(Take(rest, 1));
  lease.slot = static_cast<uint32_t>(Take(rest, 4));
  lease.sequence = Take(rest, 7);
  lease.generation = Take(rest, 7);
  lease.mode = static_cast<PinMode>(Take(rest, 1));
  lease.ttl_ms = static_cast<uint32_t>(Take(rest, 3));
  return lease;
}

}  // namespace broker
