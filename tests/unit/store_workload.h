#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/store/journal.h"
#include "server/store/sqlite_journal.h"
#include "tests/support/fault_vfs.h"
#include "tests/support/journal_calls.h"

namespace broker {

// Groups that are written one after the other, so made that what a journal holds tells how many of
// them it holds, and whether it holds each as a whole.
//
// The group i writes the sessions a and b of the slot i mod kSlots as generation i, and i into the
// bounds of the namespace; now and then it erases a session.
class StoreWorkload {
 public:
  static constexpr uint64_t kSlots = 5;

  static std::vector<Mutation> Group(uint64_t i) {
    std::vector<Mutation> group;
    if (i == 1) group.push_back(MakeNamespace(1, "default"));
    group.push_back(Put(ActiveRecord(A(i), i)));
    if (i % 4 == 0) {
      group.push_back(In(1, EraseSession{B(i)}));
    } else {
      group.push_back(PutWith(SuspendedRecord(B(i), 3000, i), Data(i)));
    }
    group.push_back(In(1, PutBounds{.numbers_end = i}));
    return group;
  }

  // What is wrong with what a journal holds, of which between `least` and `most` groups should be
  // there; empty when nothing is. `held` is how many there are.
  static std::string Problem(Journal& journal, uint64_t least, uint64_t most, uint64_t* held) {
    const auto loaded = LoadAll(journal);
    if (!loaded.ok()) return loaded.status().ToString();
    const auto it = loaded->namespaces.find(1);
    *held = it == loaded->namespaces.end() ? 0 : it->second.numbers_end;
    if (*held < least || *held > most) {
      return absl::StrCat("holds ", *held, " groups, not ", least, " to ", most);
    }
    const uint64_t first = *held < kSlots ? 1 : *held - kSlots + 1;
    size_t suspended = 0;
    for (uint64_t i = first; i <= *held; ++i) {
      const auto a = loaded->active.find({1, A(i)});
      if (a == loaded->active.end() || !SameRecord(a->second, ActiveRecord(A(i), i))) {
        return absl::StrCat(A(i), " is not that of group ", i);
      }
      const bool erased = i % 4 == 0;
      if (loaded->suspended.contains({1, B(i)}) == erased) {
        return absl::StrCat(B(i), " is not that of group ", i);
      }
      suspended += !erased;
      const auto checkpoint = GetCheckpoint(journal, B(i));
      if (!checkpoint.ok()) return checkpoint.status().ToString();
      if (checkpoint->has_value() == erased || (!erased && (*checkpoint)->data != Data(i))) {
        return absl::StrCat("the checkpoint of ", B(i), " is not that of group ", i);
      }
    }
    if (loaded->active.size() != *held - first + 1 || loaded->suspended.size() != suspended) {
      return "there are more sessions than were written";
    }
    return "";
  }

  // Whether the running journal shows exactly the first `count` groups.
  static std::string ProblemNow(Journal& journal, uint64_t count) {
    for (uint64_t slot = 0; slot < kSlots; ++slot) {
      uint64_t last = count;
      while (last > 0 && last % kSlots != slot) --last;
      const auto a = GetSession(journal, A(slot));
      if (!a.ok()) return a.status().ToString();
      if ((*a ? (*a)->generation : 0) != last) {
        return absl::StrCat(A(slot), " is not that of group ", last);
      }
    }
    return "";
  }

 private:
  static std::string A(uint64_t i) { return absl::StrCat("a", i % kSlots); }
  static std::string B(uint64_t i) { return absl::StrCat("b", i % kSlots); }
  static std::string Data(uint64_t i) {
    return std::string(i * 997 % 6000, static_cast<char>('a' + i % 26)) + absl::StrCat(i);
  }
};

// A journal whose log is copied every few commits, and that is quick to try again.
inline SqliteJournalOptions SmallJournal(std::string path, std::string vfs) {
  return {.path = std::move(path),
          .vfs = std::move(vfs),
          .log_pages = 12,
          .first_retry = std::chrono::milliseconds(1)};
}

}  // namespace broker
