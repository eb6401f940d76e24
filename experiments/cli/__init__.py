"""`ground`: what people type. Mistakes are told in one line and exit with 2, Ctrl-C with 130; a traceback means a bug."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.cli.console import CONSOLE
from experiments.cli.data import collect, data_info, fidelity, train
from experiments.cli.layouts import layout_check, layout_draw, layout_export, layout_import, layout_new
from experiments.cli.runs import compare, demo, evaluate, keep, report, run, verify
from experiments.cli.watching import record, view
from sim.utils.errors import GroundError, UnknownName


def bench(out: Path = Path("bench.json"), scenes: tuple[str, ...] = (), compiled: bool = False) -> None:
    """Measure what each scene costs, as ratios: step, workers, pictures, decision, training; prints tables and writes JSON.

    Args:
        scenes: all of them, unless named.
        compiled: also with compiled models, after half a minute of compilation for each scene.
    """
    from experiments.bench.bench import run_benchmarks as measure

    measure(out, CONSOLE, scenes, compiled)


def show() -> None:
    """List scenes with their splits, behaviours and protocols; models, search methods and experiments."""
    from agents.planning.search import searches
    from experiments.config.experiment import list_presets as experiments
    from sim.scenes.scene import scenes
    from worldmodels.model import models

    for name in scenes:
        scene = scenes[name]
        CONSOLE.print(f"[bold]{name}[/]")
        for title, names in (("splits", scene.splits), ("behaviours", scene.behaviours), ("protocols", scene.protocols)):
            if names:
                CONSOLE.print(f"  {title}: {', '.join(names)}", soft_wrap=True)
    for what, known in (("models", [*models, "simulator"]), ("search methods", list(searches)), ("experiments", experiments())):
        CONSOLE.print(f"[bold]{what}[/]: {', '.join(known)}", soft_wrap=True)


@dataclass(frozen=True)
class Command:
    """One thing that `ground` does."""

    act: Callable[..., Any]

    @property
    def line(self) -> str:
        return (self.act.__doc__ or "").strip().splitlines()[0]


COMMANDS = {
    "demo": Command(demo),
    "run": Command(run),
    "collect": Command(collect),
    "data info": Command(data_info),
    "train": Command(train),
    "fidelity": Command(fidelity),
    "evaluate": Command(evaluate),
    "compare": Command(compare),
    "verify": Command(verify),
    "report": Command(report),
    "keep": Command(keep),
    "view": Command(view),
    "record": Command(record),
    "layout check": Command(layout_check),
    "layout draw": Command(layout_draw),
    "layout import": Command(layout_import),
    "layout export": Command(layout_export),
    "layout new": Command(layout_new),
    "bench": Command(bench),
    "list": Command(show),
}


AGAIN = "stopped; the same command begins anew"
STOPPED = {"view": "closed", "record": "stopped; nothing was written"} | dict.fromkeys(
    ("verify", "bench", "fidelity", "keep", "compare", "report"), AGAIN
)


def _find(words: list[str]) -> tuple[str, list[str]]:
    """The command's name, of one word or two, and its arguments."""
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return name, words[length:]
    group = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if group:
        raise GroundError(f"'ground {words[0]}' needs one of: {', '.join(name.split()[1] for name in group)}")
    close = get_close_matches(words[0], COMMANDS, n=1)
    raise (
        UnknownName("command", words[0], COMMANDS)
        if not close
        else GroundError(f"unknown command '{words[0]}': did you mean 'ground {close[0]}'? see ground --help")
    )


def _usage(names: list[str]) -> None:
    CONSOLE.print("[bold]ground[/]: can a robot that imagines before it acts be trusted in a space it has never seen?\n")
    table = Table(box=None, show_header=False)
    for name in names:
        table.add_row(f"ground {name}", COMMANDS[name].line)
    CONSOLE.print(table)
    CONSOLE.print("\n`ground COMMAND --help` explains one. Begin with: ground demo")


def main() -> None:
    """Entry point."""
    words = sys.argv[1:]
    group = [name for name in COMMANDS if words and name.startswith(f"{words[0]} ")]
    if not words or words[0] in ("-h", "--help"):
        _usage(list(COMMANDS))
        return
    if group and words[1:] in (["-h"], ["--help"]):
        _usage(group)
        return
    name = ""
    try:
        name, rest = _find(words)
        tyro.cli(COMMANDS[name].act, args=rest, prog=f"ground {name}")
    except GroundError as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        Console(stderr=True).print(STOPPED.get(name, "stopped; what was finished is kept, the same command goes on"))
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
    except OSError as error:
        if error.filename is None:
            raise
        message = f"{error.filename}: {error.strerror}"  # a file that cannot be read or written is no bug
        Console(stderr=True).print(f"[red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
        raise SystemExit(2) from error
