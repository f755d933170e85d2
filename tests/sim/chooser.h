#pragma once

#include <cstddef>
#include <vector>

namespace broker::sim {

// Answers the questions that are free to be answered either way, and goes through all the ways:
//
//     Chooser chooser;
//     do { ... chooser.Pick(3) ... } while (!matched && chooser.Next());
//
// The first time everything is answered with 0. What is asked may depend on the answers before.
class Chooser {
 public:
  // One of 0 .. n-1.
  size_t Pick(size_t n) {
    if (n <= 1) return 0;
    if (asked_ == answers_.size()) answers_.push_back({0, n});
    return answers_[asked_++].pick;
  }

  // Starts over with the next way. False when all have been tried.
  bool Next() {
    answers_.resize(asked_);
    asked_ = 0;
    while (!answers_.empty() && answers_.back().pick + 1 == answers_.back().of) {
      answers_.pop_back();
    }
    if (answers_.empty()) return false;
    ++answers_.back().pick;
    return true;
  }

 private:
  struct Answer {
    size_t pick;
    size_t of;
  };
  std::vector<Answer> answers_;
  size_t asked_ = 0;
};

}  // namespace broker::sim
