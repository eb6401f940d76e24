"""Who meets where: arms, and the spaces that all of them play."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agents.planning.search import SearchConfig
from experiments.evaluation.results import make_label
from sim.layout import Layout
from sim.policy import PolicyFactory
from sim.utils.errors import BadFile, GroundError


@dataclass(frozen=True)
class Method:
    """One contestant: a policy and what it cost to make."""

    name: str
    make_policy: PolicyFactory
    model: str = ""
    search: str = ""
    env_steps: int = 0
    train_cpu_s: float = 0.0
    seen_layouts: frozenset[str] = frozenset()  # layout ids it was trained on
    max_episodes: int | None = None  # at most this many per split
    family: str = ""  # its name, whatever the amount of its data or training; "": the name itself
    search_config: SearchConfig | None = None
    train_seed: int | None = None  # None: nothing was trained
    data_bytes: int = 0  # of the episodes it was trained on, as they lie on the disk
    collect_cpu_s: float = 0.0  # part of train_cpu_s
    batch_episodes: int = 1  # episodes that are played in lock-step, where its planners can imagine together
    cache_content: Mapping[str, Any] | None = field(
        default=None, compare=False
    )  # what its episodes depend on; None: not to be cached

    @property
    def label(self) -> str:
        """Name, and training seed where it is not the first."""
        return make_label(self.name, self.train_seed)

    def describe(self) -> dict[str, Any]:
        """Describe the method as fields of an EpisodeResult."""
        search_config = self.search_config
        return {
            "method": self.name,
            "family": self.family or self.name,
            "model": self.model,
            "search": self.search,
            "search_samples": search_config and search_config.samples,
            "search_iterations": search_config and search_config.iterations,
            "search_horizon": search_config and search_config.horizon,
            "train_seed": self.train_seed,
            "env_steps": self.env_steps,
            "data_bytes": self.data_bytes,
            "train_cpu_s": self.train_cpu_s,
            "collect_cpu_s": self.collect_cpu_s,
        }


@dataclass(frozen=True)
class EpisodeSpec:
    """One episode to be played."""

    run: str
    scene: str
    split: str
    index: int
    seed: int
    layout: Layout
    variations: tuple[str, ...] = ()


def make_episode_specs(
    run: str, scene: Any, split: str, count: int, seed: int = 0, variations: tuple[str, ...] = (), first_index: int = 0
) -> list[EpisodeSpec]:
    """`count` spaces of a split, from number `first` on."""
    if split in ("train",):
        raise GroundError("the training split is not evaluated: those spaces were seen")
    layouts = {index: scene.sample_layout(split, index) for index in range(first_index, first_index + count)}
    if len({layout.id for layout in layouts.values()}) < count:
        raise BadFile(f"split {split} has equal layouts among its spaces {first_index} to {first_index + count - 1}")
    return [EpisodeSpec(run, scene.name, split, index, seed + index, layout, variations) for index, layout in layouts.items()]
