#include "server/store/journal_engine.h"

#include <map>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace broker {

absl::Status CheckNamespaces(const std::vector<Mutation>& group,
                             absl::FunctionRef<bool(uint32_t namespace_id)> is_there) {
  std::map<uint32_t, bool> changed;  // By the group itself.
  for (const Mutation& mutation : group) {
    const uint32_t id = mutation.namespace_id;
    const auto& what = mutation.what;
    if (std::holds_alternative<PutNamespace>(what)) {
      changed[id] = true;
    } else if (std::holds_alternative<EraseNamespace>(what)) {
      changed[id] = false;
    } else if (!std::holds_alternative<EraseSession>(what) &&
               !std::holds_alternative<PutCheckpoint>(what)) {
      const auto it = changed.find(id);
      if (it != changed.end() ? it->second : is_there(id)) continue;
      return MakeError(Reason::kStoreUnavailable,
                       absl::StrCat("the store holds no namespace with the id ", id));
    }
  }
  return absl::OkStatus();
}

}  // namespace broker
