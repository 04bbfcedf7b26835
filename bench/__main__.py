"""``make bench``: each figure as a ratio to a reference measured in the same run, alternating, as a median of rounds.

``python -m bench [NAME ...]`` measures the named ones only. Starts a private PostgreSQL with its default durability.
Prints a table and writes ``artefacts/bench.json``.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import api, browsing, draining, exporting, feed, latency, receiving, runway, seed
from bench.figures import Bench, Figure
from tests.servers import postgresql_server
from tests.serving import ROOT

FIGURES = {
    **receiving.FIGURES,
    **draining.FIGURES,
    **latency.FIGURES,
    **runway.FIGURES,
    **seed.FIGURES,
    **browsing.FIGURES,
    **feed.FIGURES,
    **api.FIGURES,
    **exporting.FIGURES,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(FIGURES)}; all by default")
    names = parser.parse_args().names or list(FIGURES)
    if unknown := set(names) - set(FIGURES):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    console = Console()
    figures: dict[str, Figure] = {}
    failed = []
    with tempfile.TemporaryDirectory() as folder, postgresql_server(fsync="on") as server:
        bench = Bench(server.url, Path(folder))
        for name in names:
            try:
                with console.status(f"Measuring {name} ..."):
                    figures[name] = FIGURES[name](bench)
            except (subprocess.CalledProcessError, OSError, AssertionError):
                console.print_exception()  # the others took minutes: one that cannot be measured costs none of them
                failed.append(name)
            else:
                console.print(f"{name}: {figures[name].ratio:.2f}")
                save(figures)
    table = Table("figure", "ours", "reference", "", "ratio", "goal")
    for figure in figures.values():
        goal = f"{'≤' if figure.is_most else '≥'} {figure.goal:g}{'' if figure.is_reached else ' ✗'}"
        table.add_row(
            figure.title, _short(figure.ours), _short(figure.reference), figure.unit, f"{figure.ratio:.2f}", goal
        )
    console.print(table)
    if failed:
        sys.exit(f"could not be measured: {', '.join(failed)}")


def save(figures: dict[str, Figure]) -> None:
    """Write what is measured so far to ``artefacts/bench.json``."""
    artefacts = ROOT / "artefacts"
    artefacts.mkdir(exist_ok=True)
    saved = {name: dataclasses.asdict(figure) for name, figure in figures.items()}
    (artefacts / "bench.json").write_text(json.dumps(saved, indent=2) + "\n")


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


if __name__ == "__main__":
    main()
