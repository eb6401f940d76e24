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
from experiments.cli.data import collect, describe_data, eval_model, train
from experiments.cli.layouts import check_layout, create_layout, draw_layout, export_layout, import_layout
from experiments.cli.runs import compare, evaluate, export, run_demo, run_experiment, verify, write_report
from experiments.cli.watching import record, view
from sim.utils.errors import GroundError, UnknownName


def run_benchmarks(out: Path = Path("bench.json"), scenes: tuple[str, ...] = (), with_compiled: bool = False) -> None:
    """Measure what each scene costs, as ratios: step, workers, pictures, decision, training; prints tables and writes JSON.

    Args:
        scenes: all of them, unless named.
        compiled: also with compiled models, after half a minute of compilation for each scene.
    """
    from experiments.bench.bench import run_benchmarks as measure

    measure(out, CONSOLE, scenes, with_compiled)


def list_registered() -> None:
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
    for heading, entries in (
        ("models", [*models, "simulator"]),
        ("search methods", list(searches)),
        ("experiments", experiments()),
    ):
        CONSOLE.print(f"[bold]{heading}[/]: {', '.join(entries)}", soft_wrap=True)


@dataclass(frozen=True)
class Command:
    """One thing that `ground` does."""

    function: Callable[..., Any]

    @property
    def summary(self) -> str:
        return (self.function.__doc__ or "").strip().splitlines()[0]


COMMANDS = {
    "demo": Command(run_demo),
    "run": Command(run_experiment),
    "collect": Command(collect),
    "data info": Command(describe_data),
    "train": Command(train),
    "fidelity": Command(eval_model),
    "evaluate": Command(evaluate),
    "compare": Command(compare),
    "verify": Command(verify),
    "report": Command(write_report),
    "keep": Command(export),
    "view": Command(view),
    "record": Command(record),
    "layout check": Command(check_layout),
    "layout draw": Command(draw_layout),
    "layout import": Command(import_layout),
    "layout export": Command(export_layout),
    "layout new": Command(create_layout),
    "bench": Command(run_benchmarks),
    "list": Command(list_registered),
}


RESTART_MESSAGE = "stopped; the same command begins anew"
INTERRUPT_MESSAGES = {"view": "closed", "record": "stopped; nothing was written"} | dict.fromkeys(
    ("verify", "bench", "fidelity", "keep", "compare", "report"), RESTART_MESSAGE
)


def _parse_command(arguments: list[str]) -> tuple[str, list[str]]:
    """The command's name, of one word or two, and its arguments."""
    for num_words in (2, 1):
        name = " ".join(arguments[:num_words])
        if name in COMMANDS:
            return name, arguments[num_words:]
    subcommands = [name for name in COMMANDS if name.startswith(f"{arguments[0]} ")]
    if subcommands:
        raise GroundError(f"'ground {arguments[0]}' needs one of: {', '.join(name.split()[1] for name in subcommands)}")
    close_matches = get_close_matches(arguments[0], COMMANDS, n=1)
    raise (
        UnknownName("command", arguments[0], COMMANDS)
        if not close_matches
        else GroundError(f"unknown command '{arguments[0]}': did you mean 'ground {close_matches[0]}'? see ground --help")
    )


def _print_usage(commands: list[str]) -> None:
    CONSOLE.print("[bold]ground[/]: can a robot that imagines before it acts be trusted in a space it has never seen?\n")
    table = Table(box=None, show_header=False)
    for name in commands:
        table.add_row(f"ground {name}", COMMANDS[name].summary)
    CONSOLE.print(table)
    CONSOLE.print("\n`ground COMMAND --help` explains one. Begin with: ground demo")


def main() -> None:
    """Entry point."""
    arguments = sys.argv[1:]
    subcommands = [name for name in COMMANDS if arguments and name.startswith(f"{arguments[0]} ")]
    if not arguments or arguments[0] in ("-h", "--help"):
        _print_usage(list(COMMANDS))
        return
    if subcommands and arguments[1:] in (["-h"], ["--help"]):
        _print_usage(subcommands)
        return
    name = ""
    try:
        name, command_arguments = _parse_command(arguments)
        tyro.cli(COMMANDS[name].function, args=command_arguments, prog=f"ground {name}")
    except GroundError as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        Console(stderr=True).print(INTERRUPT_MESSAGES.get(name, "stopped; what was finished is kept, the same command goes on"))
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
    except OSError as error:
        if error.filename is None:
            raise
        message = f"{error.filename}: {error.strerror}"  # a file that cannot be read or written is no bug
        Console(stderr=True).print(f"[red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
        raise SystemExit(2) from error
