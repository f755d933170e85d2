#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace broker {

// What a scrape in the Prometheus text format says, read back. Understands label values without
// commas and quotes.
struct Exposition {
  struct Family {
    std::string help;
    std::string type;
    std::set<std::string> labels;  // Names, without those of buckets and quantiles.
  };

  std::map<std::string, Family> families;
  std::map<std::string, double> values;  // By name and labels, as they stand there.
  std::vector<std::string> problems;     // What a scraper might choke on.

  explicit Exposition(absl::string_view text) {
    for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      if (absl::ConsumePrefix(&line, "# HELP ")) {
        const std::pair<std::string, std::string> name_and_help =
            absl::StrSplit(line, absl::MaxSplits(' ', 1));
        if (!families.emplace(name_and_help.first, Family{name_and_help.second, "", {}}).second) {
          problems.push_back("twice: " + name_and_help.first);
        }
      } else if (absl::ConsumePrefix(&line, "# TYPE ")) {
        const std::pair<std::string, std::string> name_and_type = absl::StrSplit(line, ' ');
        families[name_and_type.first].type = name_and_type.second;
      } else {
        ReadSample(line);
      }
    }
    for (const auto& [name, family] : families) {
      if (family.help.empty()) problems.push_back("no help: " + name);
      if (family.type.empty()) problems.push_back("no type: " + name);
    }
  }

 private:
  void ReadSample(absl::string_view line) {
    const size_t space = line.rfind(' ');
    const absl::string_view series = line.substr(0, space);
    double value = 0;
    if (space == absl::string_view::npos || !absl::SimpleAtod(line.substr(space + 1), &value)) {
      problems.push_back("not a sample: " + std::string(line));
    }
    if (!values.emplace(series, value).second) problems.push_back("twice: " + std::string(series));

    absl::string_view name = series.substr(0, series.find('{'));
    auto family = families.find(std::string(name));
    if (family == families.end()) {
      absl::ConsumeSuffix(&name, "_bucket") || absl::ConsumeSuffix(&name, "_count") ||
          absl::ConsumeSuffix(&name, "_sum");
      family = families.find(std::string(name));
    }
    if (family == families.end()) {
      problems.push_back("no family: " + std::string(series));
      return;
    }
    const size_t brace = series.find('{');
    if (brace == absl::string_view::npos) return;
    const absl::string_view labels = absl::StripSuffix(series.substr(brace + 1), "}");
    for (absl::string_view label : absl::StrSplit(labels, ',', absl::SkipEmpty())) {
      const std::string label_name(label.substr(0, label.find('=')));
      if (label_name != "le" && label_name != "quantile") family->second.labels.insert(label_name);
    }
  }
};

}  // namespace broker
