"""The numbers of a run, and whether they are right."""

from dataclasses import dataclass


@dataclass
class Outcome:
    """What is known of a run beyond the tally."""

    capacity: int
    keys: int
    sessions_max: int
    """Most sessions alive at once, as the broker counted."""
    shells_max: int
    """Most shells alive at once, as the operating system counted."""
    problems: list
    """What went wrong on the way, in words."""


def must_have_evicted(tally, outcome):
    """Whether the run was long enough for the pool to be too small: many commands over more keys than fit."""
    return outcome.keys > outcome.capacity and tally.commands >= 10 * outcome.keys


def verdict(tally, outcome):
    """Everything that is wrong with the run, in words. Empty: all is well."""
    wrong = list(outcome.problems)
    if tally.taken:
        wrong.append(f"{tally.taken} times a session was taken from under its holder")
    if tally.wrong:
        wrong.append(f"{tally.wrong} other faults")
    if outcome.sessions_max > outcome.capacity:
        wrong.append(f"the broker counted {outcome.sessions_max} sessions, over the capacity of {outcome.capacity}")
    if tally.commands == 0:
        wrong.append("no command was run")
    if tally.displaced == 0 and must_have_evicted(tally, outcome):
        wrong.append("nothing was evicted although there are more keys than slots")
    if tally.shells_living or tally.shells_ended_at_all != tally.shells_started:
        wrong.append(f"{tally.shells_started} shells started, but {tally.shells_ended_at_all} ended")
    return wrong + tally.faults


def table(tally, outcome):
    """The numbers, a line each."""
    ended = tally.shells_ended
    rows = [
        ("commands run", tally.commands, f"{tally.slow_commands} longer than a lease lasts unrenewed"),
        ("shells started", tally.shells_started, ""),
        ("  evicted to make room", ended["displaced"], f"of {tally.displaced} sessions evicted"),
        ("  ended with a dead worker", tally.shells_ended_with_worker, f"{tally.workers_killed} workers were killed"),
        ("  found gone by their host", ended["swept"], "idle too long, or the successor did not get to tell"),
        ("  others", ended["closed"] + ended["not activated"] + ended["died"], "closed at the end, never activated"),
        ("taken from under a command", tally.taken, "must be 0"),
        ("alive at once, by the broker", outcome.sessions_max, f"capacity {outcome.capacity}"),
        ("alive at once, by the system", outcome.shells_max, "a displaced shell may take a moment to go"),
        ("commands lost with a worker", tally.interrupted, f"{tally.discarded} dead shells discarded"),
        ("inits after a discard", tally.resets, "told so by reset"),
        ("inits failed on purpose", tally.inits_failed, ""),
        ("commands after a late renewal", tally.lease_lost, "their holder's fault"),
    ]
    rows += [(f"refused: {reason}", count, "") for reason, count in sorted(tally.refusals.items())]
    return "\n".join(f"{name:<32}{count:>8}  {note}".rstrip() for name, count, note in rows)
