"""Limits on the counts of `style_counts.py`."""

import ast

import pytest
from style_counts import MAX_FUNCTION_LINES, StyleCounts, count_style, find_functions, list_missing_sections


@pytest.fixture(scope="module")
def counts() -> StyleCounts:
    return count_style()


def test_public_functions_with_arrays_or_errors_are_documented(counts: StyleCounts) -> None:
    assert counts.compute_shares()["documented"] >= 0.9, "\n".join(counts.undocumented)


def test_docstrings_say_what_a_function_does(counts: StyleCounts) -> None:
    assert counts.compute_shares()["vague"] <= 0.02, "\n".join(counts.vague_docstrings)


def test_functions_begin_with_a_verb(counts: StyleCounts) -> None:
    assert counts.compute_shares()["verbs"] >= 0.7, "\n".join(counts.without_verb)


def test_functions_are_short(counts: StyleCounts) -> None:
    assert counts.long_functions == [], f"at most {MAX_FUNCTION_LINES} lines"


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("def scale(x: np.ndarray) -> float:\n    '''Scale.'''", ["Args"]),
        (
            "def scale(x: float) -> Float[Tensor, 'B']:\n    '''Scale.\n\n    Args:\n        x: factor.\n    '''",
            ["Returns|Yields"],
        ),
        (
            "def scale(x: Array) -> Array:\n    '''Scale.\n\n    Args:\n        x: (N,).\n\n    Returns:\n        (N,).\n    '''",
            [],
        ),
        ("def check(x: int) -> None:\n    raise ValueError(x)", ["Raises"]),
        ("def check(x: int) -> None:\n    try:\n        run(x)\n    except OSError:\n        raise", []),
        ("def check() -> None:\n    def inner() -> None:\n        raise ValueError", []),
    ],
)
def test_missing_sections_are_found(source: str, missing: list[str]) -> None:
    function = next(find_functions(ast.parse(source), "module.py"))
    assert list_missing_sections(function) == missing
