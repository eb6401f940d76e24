"""Count how the project's code is written: `python tests/style_counts.py [--list]` prints a table.

`--list` also prints the functions that miss a limit of `test_style.py`.
"""

import argparse
import ast
import io
import re
import statistics
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from test_architecture import NAMES, find_cycles, find_imports, find_module

ROOT = Path(__file__).parents[1]
PACKAGES = ("sim", "worldmodels", "agents", "experiments")
MAX_COLUMNS = 100
MAX_FUNCTION_LINES = 60
VERBS = """
abort abstain accept acquire act adapt add adjust advance aggregate align allocate allow analyse
append apply approach arrange ask assemble assert assess assign attach audit augment average
avoid await backpropagate begin bin bind block blend branch broadcast build cache calibrate call
cancel cast change check choose clamp classify clean clear click clip clone close collapse
collect colour combine compare compile complete compose compress compute concatenate configure
connect construct continue convert copy count cover create crop cross cut decide declare decode
decompose decorate decrease defer define delete denormalise derive describe deserialise destroy
detach detect determine differentiate disable discard disconnect dispatch display distil divide
download downsample draw drive drop dump embed enable encode end ensure enter enumerate escape
estimate evaluate exclude execute exit expand export extend extract extrapolate fail fetch fill
filter find finish fit fix flatten flip flush follow forget format forward freeze gather
generate get give go grow group handle has hash hide highlight hold imagine import include
increase index infer inherit init initialise insert inspect install integrate interpolate
intersect invalidate invert is iterate join judge jump keep label launch lerp limit link list
listen load locate lock log look lookup make map mark mask match measure merge migrate mirror
mix modify monitor move multiply mute name normalise note notify observe offset open optimise order
orthogonalise pack pad paint pair parse pass patch pause permute pick place plan play plot poll
pool pop populate predict prepare print probe process produce project promote propagate propose
prune publish pull push put quantise query raise randomise rank read rebuild receive recompute
reconcile record recover redraw reduce refine refit reflect refresh refuse register reject
release reload remember remove rename render reopen repair repeat replace replay report request
require rerun resample rescale reserve reset reshape resize resolve respond restart restore
restrict resume retrieve return reverse revert rewind rewrite roll rollout rotate round run
sample sanitise save scale scan schedule score scroll search seed seek segment select send
separate serialise serve set shift show shuffle shut sign silence simplify simulate skip slice
smooth snap solve sort spawn split stack standardise start step stop store stream strip
structure submit subscribe subtract suggest sum summarise suppress swap switch synchronise take
terminate test time toggle tokenise touch track train transform translate transpose truncate try
turn unfold unlock unpack unroll update upgrade upload use validate vary verify view visit wait
walk warn warp watch weigh widen wrap write yield zip zoom
"""
ARRAY_TYPES = re.compile(r"\b(ndarray|Array|ArrayLike|Tensor|Float|Int|Bool|Complex|Num|Shaped)\b")
VAGUE_STARTS = re.compile(r"(What|Of|How|Whether)\b")
PROPERTIES = ("property", "cached_property", "functools.cached_property", "setter")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class FunctionRecord:
    """A function or method, and the classes that it lies in."""

    node: Function
    file: str
    classes: tuple[ast.ClassDef, ...]
    is_nested: bool  # inside another function

    @property
    def label(self) -> str:
        """File, line and qualified name."""
        return f"{self.file}:{self.node.lineno} {'.'.join([*(owner.name for owner in self.classes), self.node.name])}"

    @property
    def num_lines(self) -> int:
        """Lines from `def` to the end, without the docstring: what it takes to read the code."""
        first = self.node.body[0]
        documented = ast.get_docstring(self.node) is not None
        return (self.node.end_lineno or 0) - self.node.lineno + 1 - documented * ((first.end_lineno or 0) - first.lineno + 1)

    @property
    def is_named_freely(self) -> bool:
        """True where the verb rule applies to the name: no dunder method, no property."""
        decorators = [ast.unparse(decorator).rpartition(".")[2] for decorator in self.node.decorator_list]
        return not self.node.name.startswith("__") and not set(decorators) & set(PROPERTIES)

    @property
    def is_public(self) -> bool:
        """True for a function that other modules may call."""
        names = [owner.name for owner in self.classes] + [self.node.name]
        return self.is_named_freely and not self.is_nested and not any(name.startswith("_") for name in names)


@dataclass
class StyleCounts:
    """The counts of the whole project."""

    functions: list[FunctionRecord] = field(default_factory=list)
    untyped: list[str] = field(default_factory=list)
    without_verb: list[str] = field(default_factory=list)
    documentable: list[str] = field(default_factory=list)  # public, with arrays or errors
    undocumented: list[str] = field(default_factory=list)  # those whose docstring lacks a section
    num_docstrings: int = 0
    vague_docstrings: list[str] = field(default_factory=list)
    num_assignments: int = 0
    packed_assignments: list[str] = field(default_factory=list)
    num_lines: int = 0
    long_lines: list[str] = field(default_factory=list)
    import_circles: list[list[str]] = field(default_factory=list)
    num_code_lines: int = 0

    @property
    def named_functions(self) -> list[FunctionRecord]:
        """The functions that the verb rule applies to."""
        return [function for function in self.functions if function.is_named_freely]

    @property
    def long_functions(self) -> list[str]:
        """Functions above the limit of lines."""
        return [f"{f.label}: {f.num_lines}" for f in self.functions if f.num_lines > MAX_FUNCTION_LINES]

    def compute_shares(self) -> dict[str, float]:
        """Compute the shares that `test_style.py` limits, each in [0, 1]."""
        return {
            "typed": 1 - len(self.untyped) / len(self.functions),
            "verbs": 1 - len(self.without_verb) / len(self.named_functions),
            "documented": 1 - len(self.undocumented) / len(self.documentable),
            "vague": len(self.vague_docstrings) / self.num_docstrings,
            "packed": len(self.packed_assignments) / self.num_assignments,
            "long_lines": len(self.long_lines) / self.num_lines,
        }


def count_style(root: Path = ROOT) -> StyleCounts:
    """Count the style figures of all packages below a folder.

    Raises:
        SyntaxError: a module is no Python.
    """
    counts = StyleCounts()
    sources = {
        str(file.relative_to(root)): file.read_text() for package in PACKAGES for file in sorted((root / package).rglob("*.py"))
    }
    trees = {file: ast.parse(source, file) for file, source in sources.items()}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for file, tree in trees.items():
        lines = sources[file].splitlines()
        counts.num_lines += len(lines)
        counts.long_lines += [f"{file}:{number}" for number, line in enumerate(lines, 1) if len(line) > MAX_COLUMNS]
        counts.num_code_lines += count_code_lines(sources[file], tree)
        counts.functions += find_functions(tree, file)
        _count_docstrings(counts, tree, file)
        _count_assignments(counts, tree, file)
    for function in counts.functions:
        _count_function(counts, function, classes)
    imports = {
        name: {find_module(full) for full in find_imports((ROOT / file).read_text())} - {None, name}
        for name, file in NAMES.items()
    }
    counts.import_circles = find_cycles({name: {str(target) for target in targets} for name, targets in imports.items()})
    return counts


def find_functions(
    node: ast.AST, file: str, classes: tuple[ast.ClassDef, ...] = (), is_nested: bool = False
) -> Iterator[FunctionRecord]:
    """Find all functions and methods below a node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield FunctionRecord(child, file, classes, is_nested)
            yield from find_functions(child, file, classes, True)
        elif isinstance(child, ast.ClassDef):
            yield from find_functions(child, file, (*classes, child), is_nested)
        else:
            yield from find_functions(child, file, classes, is_nested)


def count_code_lines(source: str, tree: ast.Module) -> int:
    """Count the lines of code, without blank lines, comments and docstrings."""
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in layout:
            lines.update(range(token.start[0], token.end[0] + 1))
    for docstring in _find_docstrings(tree):
        lines -= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return len(lines)


def list_missing_sections(function: FunctionRecord) -> list[str]:
    """List the docstring sections that a public function needs and lacks.

    Returns:
        Sections: array arguments need `Args`, returned arrays `Returns`, errors `Raises`.
    """
    docstring = ast.get_docstring(function.node) or ""
    return [section for section in _list_needed_sections(function) if not re.search(rf"^({section}):", docstring, re.M)]


def _list_needed_sections(function: FunctionRecord) -> list[str]:
    node, arguments = function.node, _list_arguments(function.node)
    needs_args = any(argument.annotation and ARRAY_TYPES.search(ast.unparse(argument.annotation)) for argument in arguments)
    needs_returns = bool(node.returns and ARRAY_TYPES.search(ast.unparse(node.returns)))
    needed = {"Args": needs_args, "Returns|Yields": needs_returns, "Raises": _has_raise(node)}
    return [section for section, is_needed in needed.items() if is_needed]


def _has_raise(node: ast.AST) -> bool:
    """True where an error is raised, other than by a bare `raise` or in an inner function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) and child.exc and "NotImplementedError" not in ast.unparse(child.exc):
            return True
        if not isinstance(child, Function | ast.Lambda | ast.ClassDef) and _has_raise(child):
            return True
    return False


def _list_arguments(node: Function) -> list[ast.arg]:
    arguments = node.args
    extra = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]
    return [argument for argument in named if argument.arg not in ("self", "cls")]


def _is_described_by_interface(function: FunctionRecord, classes: list[ast.ClassDef]) -> bool:
    """True for a method without docstring that a base class or a fulfilled protocol describes."""
    if not function.classes or ast.get_docstring(function.node):
        return False
    owner = function.classes[-1]
    by_name = {definition.name: definition for definition in classes}
    lineage, names = [owner], {node.name for node in owner.body if isinstance(node, Function)}
    for definition in lineage:  # grows while bases are found
        names |= {node.name for node in definition.body if isinstance(node, Function)}
        lineage += [by_name[base] for base in _list_bases(definition) if base in by_name and by_name[base] not in lineage]
    protocols = [definition for definition in classes if "Protocol" in _list_bases(definition)]
    fulfilled = [protocol for protocol in protocols if {f.name for f in protocol.body if isinstance(f, Function)} <= names]
    return any(
        isinstance(method, Function) and method.name == function.node.name and ast.get_docstring(method)
        for definition in [*lineage[1:], *fulfilled]
        for method in definition.body
    )


def _list_bases(definition: ast.ClassDef) -> list[str]:
    """List the names of base classes, without modules and type arguments."""
    return [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in definition.bases]


def _find_docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            assert isinstance(docstring, ast.Expr)
            yield docstring


def _count_docstrings(counts: StyleCounts, tree: ast.Module, file: str) -> None:
    for docstring in _find_docstrings(tree):
        text = str(ast.literal_eval(docstring.value)).strip()
        counts.num_docstrings += 1
        if VAGUE_STARTS.match(text):
            counts.vague_docstrings.append(f"{file}:{docstring.lineno} {text.splitlines()[0]}")


def _count_assignments(counts: StyleCounts, tree: ast.Module, file: str) -> None:
    assignments = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    counts.num_assignments += len(assignments)
    counts.packed_assignments += [
        f"{file}:{node.lineno} {ast.unparse(node)}"
        for node in assignments
        if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
    ]


def _count_function(counts: StyleCounts, function: FunctionRecord, classes: list[ast.ClassDef]) -> None:
    node = function.node
    if not node.returns or not all(argument.annotation for argument in _list_arguments(node)):
        counts.untyped.append(function.label)
    if function.is_named_freely and node.name.strip("_").split("_")[0] not in VERBS.split():
        counts.without_verb.append(function.label)
    if function.is_public and _list_needed_sections(function):
        counts.documentable.append(function.label)
        missing = list_missing_sections(function)
        if missing and not _is_described_by_interface(function, classes):
            counts.undocumented.append(f"{function.label}: {', '.join(missing)}")


def format_counts(counts: StyleCounts) -> str:
    """Format the counts as a table of name and value."""
    lengths = sorted(function.num_lines for function in counts.functions)
    median, p90 = statistics.median(lengths), lengths[int(0.9 * len(lengths))]
    shares = counts.compute_shares()
    documented = len(counts.documentable) - len(counts.undocumented)
    rows = [
        ("function length median / p90 / max", f"{median:g} / {p90} / {lengths[-1]}"),
        (f"functions above {MAX_FUNCTION_LINES} lines", str(len(counts.long_functions))),
        ("typed signatures", f"{shares['typed']:.1%}"),
        ("functions that begin with a verb", f"{shares['verbs']:.1%}"),
        ("public functions with arrays or errors, documented", f"{documented} of {len(counts.documentable)}"),
        ("docstrings that begin What / Of / How / Whether", f"{shares['vague']:.1%}"),
        ("packed assignments", f"{shares['packed']:.1%}"),
        (f"lines over {MAX_COLUMNS} columns", f"{shares['long_lines']:.1%}"),
        ("import circles", str(len(counts.import_circles))),
        ("code lines", str(counts.num_code_lines)),
    ]
    return "\n".join(f"{name:52} {value}" for name, value in rows)


def main() -> None:
    """Print the table, and on request the places that miss a limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", nargs="?", const="", help="print the places too; a path limits them")
    prefix = parser.parse_args().list
    counts = count_style()
    print(format_counts(counts))
    for name in (
        "long_functions",
        "untyped",
        "without_verb",
        "undocumented",
        "vague_docstrings",
        "packed_assignments",
        "long_lines",
    ):
        places = [place for place in getattr(counts, name) if prefix is not None and place.startswith(prefix)]
        if places:
            print(f"\n{name}:", *places, sep="\n  ")


if __name__ == "__main__":
    sys.exit(main())
