"""Method: a policy to evaluate, and what it cost to make."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agents.planning.search import SearchConfig
from experiments.evaluation.results import format_training_label
from sim.policy import PolicyFactory


@dataclass(frozen=True)
class Method:
    """A policy to evaluate, and what it cost to make."""

    name: str
    make_policy: PolicyFactory
    model: str = ""
    search: str = ""
    env_steps: int = 0
    train_cpu_s: float = 0.0
    seen_layouts: frozenset[str] = frozenset()  # ids of layouts in its training data
    max_episodes: int | None = None  # in each split
    family: str = ""  # name without the amount of data or training; "": the name itself
    search_config: SearchConfig | None = None
    train_seed: int | None = None  # None: nothing was trained
    data_bytes: int = 0  # of its training data on disk
    collect_cpu_s: float = 0.0  # part of train_cpu_s
    batch_episodes: int = 1  # episodes run in lock-step, whose planners share model rollouts
    # All that its episodes depend on; None: they are not cached.
    cache_content: Mapping[str, Any] | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """Name, with the training seed where that is not the first."""
        return format_training_label(self.name, self.train_seed)

    def describe(self) -> dict[str, Any]:
        """Describe the method as fields of an EpisodeResult."""
        names = ("model", "search", "train_seed", "env_steps", "data_bytes", "train_cpu_s", "collect_cpu_s")
        record: dict[str, Any] = {"method": self.name, "family": self.family or self.name}
        record |= {name: getattr(self, name) for name in names}
        for name in ("samples", "iterations", "horizon"):
            record[f"search_{name}"] = self.search_config and getattr(self.search_config, name)
        return record
