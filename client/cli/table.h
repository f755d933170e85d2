#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace sessionbroker::cli {

// `text` with everything escaped that could move the cursor, colour the screen or break a line:
// keys, labels and messages come from strangers.
std::string Printable(const std::string& text);

// Text in aligned columns, two spaces apart, for a person's eyes. Cells are made printable; an
// empty one shows as "-". Widths count characters, not bytes.
class Table {
 public:
  // `header` may be empty, for a table of names and values.
  explicit Table(std::vector<std::string> header);

  // With as many cells as every other row has.
  void AddRow(std::vector<std::string> cells);

  // One line a row, each ended by a newline, without trailing spaces. Only the header if there are
  // no rows.
  std::string ToString() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// A table whose rows are shown one by one: a column is as wide as its widest cell so far. Otherwise
// as Table.
class LiveTable {
 public:
  explicit LiveTable(std::vector<size_t> widths) : widths_(std::move(widths)) {}
  // The line, ended by a newline, without trailing spaces.
  std::string Row(std::vector<std::string> cells);

 private:
  std::vector<size_t> widths_;
};

}  // namespace sessionbroker::cli
