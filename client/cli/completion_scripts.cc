#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/cli/completion_words.h"

namespace sessionbroker::cli {
namespace {

// Both names of each flag.
std::vector<std::string> Names(const FlagWords& flag) {
  std::vector<std::string> names;
  if (!flag.long_name.empty()) names.push_back(flag.long_name);
  if (!flag.short_name.empty()) names.push_back(flag.short_name);
  return names;
}

// The word behind these is no command. No flag takes a value in one command and none in another.
std::set<std::string> FlagsWithValue(const std::vector<CommandWords>& commands) {
  std::set<std::string> names;
  for (const CommandWords& command : commands) {
    for (const FlagWords& flag : command.flags) {
      if (!flag.takes_value) continue;
      for (const std::string& name : Names(flag)) names.insert(name);
    }
  }
  return names;
}

// The commands that have a name of their own, quoted for a pattern of `case`.
std::vector<std::string> QuotedPaths(const std::vector<CommandWords>& commands) {
  std::vector<std::string> paths;
  for (const CommandWords& command : commands) {
    if (!command.path.empty()) paths.push_back(absl::StrCat("'", command.path, "'"));
  }
  return paths;
}

// A line of `case` for each flag of each command that takes a value: what may follow it.
std::string ValueCases(const std::vector<CommandWords>& commands) {
  std::string cases;
  for (const CommandWords& command : commands) {
    for (const FlagWords& flag : command.flags) {
      if (!flag.takes_value) continue;
      for (const std::string& name : Names(flag)) {
        // Those of brokerctl itself may follow any command.
        const std::string at = command.path.empty() ? "*' " : absl::StrCat("'", command.path, " ");
        absl::StrAppend(&cases, "    ", at, name, "') ", flag.is_path ? "files=1; " : "", "offer='",
                        absl::StrJoin(flag.values, " "), "'; value=1 ;;\n");
      }
    }
  }
  return cases;
}

// A line of `case` for each command: its commands, and its flags with those of brokerctl itself.
std::string CommandCases(const std::vector<CommandWords>& commands) {
  std::string cases;
  for (const CommandWords& command : commands) {
    std::set<std::string> flags;
    for (const CommandWords* owner : {&command, &commands.front()}) {
      for (const FlagWords& flag : owner->flags) {
        for (const std::string& name : Names(flag)) flags.insert(name);
      }
    }
    absl::StrAppend(&cases, "    '", command.path, "') below='",
                    absl::StrJoin(command.commands, " "), "'; flags='", absl::StrJoin(flags, " "),
                    "' ;;\n");
  }
  return cases;
}

// What bash and zsh have in common: from $before, the words before the one to complete, which is
// $cur, to $offer; $files is set where a path may follow.
std::string CommonBody(const std::vector<CommandWords>& commands) {
  constexpr char kBody[] = R"(  local at= word skip= flags= below= offer= value= files=
  for word in "${before[@]}"; do
    if [[ -n $skip ]]; then [[ $word == '=' ]] || skip=; continue; fi
    case $word in
      --) return ;;
      @WITH_VALUE@) skip=1; continue ;;
    esac
    case "${at:+$at }$word" in
      @PATHS@) at="${at:+$at }$word" ;;
    esac
  done
  case "$at $prev" in
@VALUE_CASES@  esac
  if [[ -z $value ]]; then
    case $at in
@COMMAND_CASES@    esac
    case $cur in
      -*) offer=$flags ;;
      *) offer=$below; [[ -z $below ]] && files=1 ;;
    esac
  fi
)";
  return absl::StrReplaceAll(kBody, {{"@WITH_VALUE@", absl::StrJoin(FlagsWithValue(commands), "|")},
                                     {"@PATHS@", absl::StrJoin(QuotedPaths(commands), "|")},
                                     {"@VALUE_CASES@", ValueCases(commands)},
                                     {"@COMMAND_CASES@", CommandCases(commands)}});
}

std::string FishQuote(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

// Lines of `complete` for the flags of a command, where `condition` holds.
std::string FishFlags(const CommandWords& command, const std::string& condition) {
  std::string lines;
  for (const FlagWords& flag : command.flags) {
    absl::StrAppend(&lines, "complete -c brokerctl", condition);
    if (!flag.long_name.empty()) absl::StrAppend(&lines, " -l ", flag.long_name.substr(2));
    if (!flag.short_name.empty()) absl::StrAppend(&lines, " -s ", flag.short_name.substr(1));
    if (flag.takes_value) absl::StrAppend(&lines, flag.is_path ? " -r -F" : " -x");
    if (!flag.values.empty()) {
      absl::StrAppend(&lines, " -a ", FishQuote(absl::StrJoin(flag.values, " ")));
    }
    absl::StrAppend(&lines, " -d ", FishQuote(flag.help), "\n");
  }
  return lines;
}

}  // namespace

std::string BashCompletion(const std::vector<CommandWords>& commands) {
  return absl::StrCat(
      "# Completion of brokerctl for bash: source <(brokerctl completion bash)\n"
      "_brokerctl() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
      "  local -a before=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\")\n"
      "  COMPREPLY=()\n"
      "  # bash takes --flag=value for three words.\n"
      "  if [[ $cur == '=' ]]; then cur=\n"
      "  elif [[ $prev == '=' ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}\n"
      "  fi\n",
      CommonBody(commands),
      "  # Without a reply bash completes names of files, which is right where a path may follow.\n"
      "  [[ -n $files ]] || compopt +o default 2> /dev/null\n"
      "  COMPREPLY=($(compgen -W \"$offer\" -- \"$cur\"))\n"
      "}\n"
      "complete -o default -F _brokerctl brokerctl\n");
}

std::string ZshCompletion(const std::vector<CommandWords>& commands) {
  return absl::StrCat(
      "#compdef brokerctl\n"
      "# Completion of brokerctl for zsh: source <(brokerctl completion zsh), after compinit\n"
      "_brokerctl() {\n"
      "  local cur=${words[CURRENT]} prev=${words[CURRENT-1]}\n"
      "  local -a before=(\"${(@)words[2,CURRENT-1]}\")\n"
      "  () {\n",
      CommonBody(commands),
      "  [[ -n $offer ]] && compadd -- ${=offer}\n"
      "  [[ -n $files ]] && _files\n"
      "  }\n"
      "}\n"
      "compdef _brokerctl brokerctl\n");
}

std::string FishCompletion(const std::vector<CommandWords>& commands) {
  std::string script = absl::StrCat(
      "# Completion of brokerctl for fish: brokerctl completion fish | source\n"
      "# Whether the command line so far names this command.\n"
      "function __brokerctl_at\n"
      "  set -l at\n"
      "  set -l skip\n"
      "  for word in (commandline -opc)[2..-1]\n"
      "    if test -n \"$skip\"\n"
      "      set skip\n"
      "      continue\n"
      "    end\n"
      "    switch $word\n"
      "      case --\n"
      "        return 1\n"
      "      case ",
      absl::StrJoin(FlagsWithValue(commands), " "),
      "\n"
      "        set skip 1\n"
      "        continue\n"
      "    end\n"
      "    switch (string join ' ' $at $word)\n"
      "      case ",
      absl::StrJoin(QuotedPaths(commands), " "),
      "\n"
      "        set -a at $word\n"
      "    end\n"
      "  end\n"
      "  test (string join ' ' $at) = \"$argv[1]\"\n"
      "end\n",
      FishFlags(commands.front(), ""));
  for (const CommandWords& command : commands) {
    const std::string here =
        absl::StrCat(" -n ", FishQuote(absl::StrCat("__brokerctl_at '", command.path, "'")));
    for (const CommandWords& below : commands) {
      const size_t cut = below.path.rfind(' ');
      const bool direct = cut == std::string::npos ? command.path.empty() && !below.path.empty()
                                                   : below.path.substr(0, cut) == command.path;
      if (!direct) continue;
      absl::StrAppend(&script, "complete -c brokerctl -f", here, " -a ",
                      cut == std::string::npos ? below.path : below.path.substr(cut + 1), " -d ",
                      FishQuote(below.help), "\n");
    }
    if (!command.path.empty()) script += FishFlags(command, here);
  }
  return script;
}

}  // namespace sessionbroker::cli
