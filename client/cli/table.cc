#include "client/cli/table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace sessionbroker::cli {
namespace {

// How many UTF-8 characters; close enough to how many columns.
size_t Width(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

void MakePrintable(std::vector<std::string>& cells) {
  for (std::string& cell : cells) cell = cell.empty() ? "-" : Printable(cell);
}

// Makes the columns wide enough for the row.
void Widen(const std::vector<std::string>& row, std::vector<size_t>& widths) {
  widths.resize(std::max(widths.size(), row.size()), 0);
  for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
}

// For columns that are wide enough.
void AppendRow(const std::vector<std::string>& row, const std::vector<size_t>& widths,
               std::string& out) {
  for (size_t i = 0; i < row.size(); ++i) {
    out += row[i];
    if (i + 1 < row.size()) out.append(widths[i] - Width(row[i]) + 2, ' ');
  }
  out += '\n';
}

}  // namespace

std::string Printable(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = text[i];
    // U+0080 to U+009F, control characters too, are 0xc2 and one of these bytes.
    const bool c1_control =
        c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (c == '\n') {
      out += "\\n";
    } else if (c < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&out, "\\x%02x", c);
    } else if (c1_control) {
      absl::StrAppendFormat(&out, "\\u00%02x", static_cast<unsigned char>(text[++i]));
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

Table::Table(std::vector<std::string> header) {
  if (!header.empty()) rows_.push_back(std::move(header));
}

void Table::AddRow(std::vector<std::string> cells) {
  MakePrintable(cells);
  rows_.push_back(std::move(cells));
}

std::string Table::ToString() const {
  std::vector<size_t> widths;
  for (const std::vector<std::string>& row : rows_) Widen(row, widths);
  std::string out;
  for (const std::vector<std::string>& row : rows_) AppendRow(row, widths, out);
  return out;
}

std::string LiveTable::Row(std::vector<std::string> cells) {
  MakePrintable(cells);
  Widen(cells, widths_);
  std::string line;
  AppendRow(cells, widths_, line);
  return line;
}

}  // namespace sessionbroker::cli
