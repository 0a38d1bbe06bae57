"""The faults before all contenders: JSON, a table, and plots.

    python benchmarks/faults/run.py [--scenario slow,hanging] [--seconds 12] [--rate 80] [--repeat 3]

Ten endpoints in a process of their own, a contender and its traffic in another, a proxy in a
third; one contender at a time, in an order that changes with each scenario. A fresh set of
processes for each run, the same arrivals for all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import report
from benchmarks.children import stop_on_sigterm
from benchmarks.faults import contenders, measure, plot
from benchmarks.faults.measure import Measured
from benchmarks.faults.scenarios import SCENARIOS, Scenario

NOT_BY_DEFAULT = ("storm",)
PLOTS = Path(__file__).parents[2] / "docs" / "plots"
Result = list[tuple[Scenario, list[Measured]]]


def measured(names: Sequence[str], who: Sequence[str], chosen: argparse.Namespace) -> Result:
    """Of each scenario what each contender did: the medians of its runs."""
    results: Result = []
    for turn, name in enumerate(names):
        scenario = SCENARIOS[name](chosen.rate, chosen.seconds)
        runs: dict[str, list[Measured]] = {contender: [] for contender in who}
        for number in range(chosen.repeat):
            first = (turn + number) % len(who)
            for contender in [*who[first:], *who[:first]]:
                found = measure.run(scenario, contender, number, chosen.tries)
                print(json.dumps(asdict(found)), file=sys.stderr, flush=True)
                runs[contender].append(found)
        results.append((scenario, [measure.median(runs[contender]) for contender in who]))
    return results


def tables(results: Result) -> Iterator[str]:
    """A heading and a table for each scenario."""
    head = ("", "success", "p50 ms", "p99 ms", "p99.9 ms", "sent per call", "bad share", "good/s", "CPU ms", "starved")
    for scenario, found in results:
        yield f"### {scenario.title}"
        yield report.table(head, [_row(one) for one in found])
        if scenario.capacity is not None:
            yield _overload(scenario, found)
        if scenario.failing:
            yield _bound(scenario, found)


def _row(one: Measured) -> list[str]:
    return [
        one.contender,
        f"{one.success:.2%}",
        *(f"{value:.0f}" for value in (one.p50, one.p99, one.p999)),
        f"{one.amplification:.2f}",
        "" if one.bad_share is None else f"{one.bad_share:.1%}",
        f"{one.goodput:.0f}",
        f"{one.cpu:.1f}",
        f"{one.starved:.0%}",
    ]


def _overload(scenario: Scenario, found: Sequence[Measured]) -> str:
    told = [
        f"{one.contender} {one.goodput / scenario.capacity:.0%}, failing until {one.recovery:.1f} s after it"
        for one in found
    ]
    return f"Goodput of the {scenario.capacity:.0f} a second that can be had: " + "; ".join(told) + "."


def _bound(scenario: Scenario, found: Sequence[Measured]) -> str:
    share = 1.0 - scenario.failing
    told = [f"{one.contender} {min(1.0, share * one.amplification):.0%}" for one in found]
    return f"At most {share:.0%} of what is sent succeeds. With what each has sent that is: " + "; ".join(told) + "."


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    usual = [name for name in SCENARIOS if name not in NOT_BY_DEFAULT]
    options.add_argument("--scenario", default=",".join(usual), help="with commas; default: %(default)s")
    options.add_argument("--contender", help="separated by ';'", default=";".join(contenders.available()))
    options.add_argument("--seconds", type=float, default=12.0, help="of the fault (default: %(default)g)")
    options.add_argument("--rate", type=float, default=80.0, help="calls a second (default: %(default)g)")
    options.add_argument("--repeat", type=int, default=3, help="runs, of which the median is shown")
    options.add_argument("--tries", type=int, default=3, help="of a run while the machine is restless")
    options.add_argument("--dry", action="store_true", help="keep nothing: print only")
    chosen = options.parse_args()
    stop_on_sigterm()
    before = report.machine()
    names, who = chosen.scenario.split(","), chosen.contender.split(";")
    results = measured(names, who, chosen)
    if chosen.dry:
        print("\n\n".join(tables(results)))
        return
    report.publish("faults", "Faults", before, *tables(results))
    everything = [asdict(one) for _, found in results for one in found]
    (report.RESULTS / "faults.json").write_text(json.dumps(everything, indent=1) + "\n")
    plot.draw(results, PLOTS)


if __name__ == "__main__":
    main()
