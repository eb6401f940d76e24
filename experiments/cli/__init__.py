"""`ground`: the command line.

A mistake of the user is one line and exit code 2, Ctrl-C is exit code 130; a traceback is a bug.
"""

import ast
import contextlib
import functools
import io
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_type_hints

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.cli.console import CONSOLE
from sim.utils.errors import GroundError, UnknownName
from sim.utils.files import is_disk_full

COMMANDS = {  # module of this package and function; a command imports no more than its own module
    "demo": "runs.run_demo",
    "run": "runs.run_experiment",
    "collect": "data.collect",
    "data info": "data.describe_data",
    "train": "models.train",
    "eval-model": "models.eval_model",
    "evaluate": "evaluation.evaluate",
    "compare": "results.compare",
    "verify": "evaluation.verify",
    "report": "results.write_report",
    "export": "results.export",
    "view": "view.view",
    "record": "view.record",
    "layout check": "layouts.check_layout",
    "layout draw": "layouts.draw_layout",
    "layout import": "layouts.import_layout",
    "layout export": "layouts.export_layout",
    "layout new": "layouts.create_layout",
    "bench": "bench.run_benchmarks",
    "list": "runs.list_registered",
}
INTERRUPT_MESSAGE = "stopped; finished steps are stored, run the same command to resume"
INTERRUPT_MESSAGES = {"view": "closed", "record": "stopped; nothing was written"} | dict.fromkeys(
    ("verify", "bench", "eval-model", "export", "compare", "report"), "stopped; run the same command to start again"
)


def load_command(name: str) -> Callable[..., Any]:
    """Import the function of a command."""
    return pkgutil.resolve_name(f"experiments.cli.{COMMANDS[name]}")


def read_summary(name: str) -> str:
    """Read the first line of a command's docstring, without the import of its module."""
    module, function = COMMANDS[name].split(".")
    tree = ast.parse(Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8"))
    node = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    return (ast.get_docstring(node) or "").splitlines()[0]


def _parse_command(arguments: list[str]) -> tuple[str, list[str]]:
    """Split off the command's name, of one or two words.

    Raises:
        GroundError: there is no such command.
    """
    for num_words in (2, 1):
        name = " ".join(arguments[:num_words])
        if name in COMMANDS:
            return name, arguments[num_words:]
    if subcommands := _list_subcommands(arguments[0]):
        raise GroundError(f"'ground {arguments[0]}' needs one of: {', '.join(name.split()[1] for name in subcommands)}")
    if close := get_close_matches(arguments[0], COMMANDS, n=1):
        raise GroundError(f"unknown command '{arguments[0]}': did you mean 'ground {close[0]}'? see ground --help")
    raise UnknownName("command", arguments[0], COMMANDS)


def _list_subcommands(word: str) -> list[str]:
    return [name for name in COMMANDS if name.startswith(f"{word} ")]


def _print_usage(commands: Iterable[str]) -> None:
    CONSOLE.print("[bold]ground[/]: test whether a robot that plans with a learned world model is safe in an unseen layout\n")
    table = Table(box=None, show_header=False)
    for name in commands:
        table.add_row(f"ground {name}", read_summary(name))
    CONSOLE.print(table)
    CONSOLE.print("\n`ground COMMAND --help` explains a command. Begin with: ground demo")


def _exit_with_error(message: str) -> None:
    Console(stderr=True).print(f"[red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
    raise SystemExit(2)


def _join_repeated_options(function: Callable[..., Any], arguments: list[str]) -> list[str]:
    """Join the values of a list option that is given several times: `--vary A --vary B`.

    Raises:
        GroundError: another option is given twice.
    """
    hints = get_type_hints(function)
    list_options = {f"--{name.replace('_', '-')}" for name, hint in hints.items() if Ellipsis in get_args(hint)}
    values: dict[str, list[str]] = {"": []}  # by option, the positional arguments first
    option = ""
    for argument in arguments:
        if argument.startswith("--"):
            option, mark, value = argument.partition("=")
            option = option.replace("_", "-")
            if option in values and option not in list_options:
                raise GroundError(f"{option} is given twice")
            values.setdefault(option, []).extend([value] if mark else [])
        else:
            values[option].append(argument)
    return [word for option, words in values.items() for word in ([option, *words] if option else words)]


def _parse_arguments(name: str, arguments: list[str]) -> Callable[[], Any]:
    """Parse the arguments of a command.

    Raises:
        GroundError: they are wrong; tyro's message in one line.
    """
    function = load_command(name)
    if "" in arguments:  # an empty path would mean the working directory
        raise GroundError(f"an argument is empty; see ground {name} --help")
    arguments = _join_repeated_options(function, arguments)

    @functools.wraps(function)
    def bind(*values: Any, **options: Any) -> Callable[[], Any]:
        return functools.partial(function, *values, **options)

    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            return tyro.cli(bind, args=arguments, prog=f"ground {name}")
    except SystemExit as end:
        if not end.code:
            raise
        _, message, *hints = re.split("[-─]{5,}", re.sub("[╭╮╰╯│├┤]", " ", output.getvalue()))
        text = " ".join(message.partition("Got errors")[0].split())
        if close := re.search(r"Perhaps you meant:\s+(--[\w-]+)", "".join(hints)):
            text += f" (did you mean {close[1]}?)"
        raise GroundError(f"{text.rstrip('.')}; see ground {name} --help") from None


def main() -> None:
    """Run the command line."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        _print_usage(COMMANDS)
        return
    if (subcommands := _list_subcommands(arguments[0])) and arguments[1:] in (["-h"], ["--help"]):
        _print_usage(subcommands)
        return
    name = ""
    try:
        if wrong := [argument for argument in arguments if not argument.isascii() and re.search("[\ud800-\udfff]", argument)]:
            raise GroundError(f"'{wrong[0]}' is not UTF-8: libraries cannot open such a file")
        name, command_arguments = _parse_command(arguments)
        _parse_arguments(name, command_arguments)()
    except GroundError as error:
        _exit_with_error(str(error))
    except KeyboardInterrupt:
        Console(stderr=True).print(INTERRUPT_MESSAGES.get(name, INTERRUPT_MESSAGE))
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
    except OSError as error:
        if is_disk_full(error):
            _exit_with_error("no space is left on the disk; finished files are kept, run the same command to resume")
        if error.filename is None:
            raise
        # A file that cannot be read or written is no bug.
        _exit_with_error(f"{error.filename}: {error.strerror}")
