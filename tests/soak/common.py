"""Failures and figures of a soak test, and its command line."""

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.versions import read_versions


@dataclass
class Summary:
    """Figures and failures of one run of a soak test."""

    test: str
    seed: int
    num_tries: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    start_s: float = field(default_factory=time.monotonic)

    def add_failure(self, text: str) -> None:
        """Print a failure in one line at once, and keep it."""
        line = " ".join(text.split())
        self.failures.append(line)
        print(f"FAILURE {line}", flush=True)

    def finish(self, out: Path | None) -> int:
        """Print the summary as JSON, and write it to a file if one is given.

        Returns:
            Exit code: 1 if there were failures.
        """
        content = {
            "test": self.test,
            "versions": read_versions(),
            "seed": self.seed,
            "tries": self.num_tries,
            "seconds": round(time.monotonic() - self.start_s, 1),
            **self.figures,
            "num_failures": len(self.failures),
            "failures": self.failures,
        }
        text = json.dumps(content, indent=1)
        print(text, flush=True)
        if out is not None:
            out.write_text(text + "\n", encoding="utf-8")
        return 1 if self.failures else 0


def make_parser(docstring: str, examples: tuple[str, ...]) -> argparse.ArgumentParser:
    """Make a parser with examples, and the options that every soak test has."""
    parser = argparse.ArgumentParser(
        description=docstring,
        epilog="examples:\n" + "\n".join(f"  python tests/soak/{example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices (default: 0)")
    parser.add_argument("--json", type=Path, help="file of the summary, which is printed too")
    return parser
