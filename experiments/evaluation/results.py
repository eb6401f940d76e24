"""EpisodeResult: the outcome and costs of one evaluated episode, and its file.

On disk a result is one row of Parquet with flat columns: nested values are columns such as
`violation/robot_collision`, `variation/load_mass_kg`, `plans/load_tipped/predicted` and
`indicator/stops`.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.migrations import OLD_RESULT_SUFFIX, migrate_result
from sim.data.episode import Episode
from sim.data.store import read_shard
from sim.utils.errors import BadFile
from sim.utils.files import has_form, write_atomic
from sim.variation import Variation

RESULTS_VERSION = 2
SUFFIX = ".result"
CUSTOM_SPLIT_PREFIX = "own-"  # a custom layout has a split of its own: own-HASH
CONTACT_VIOLATION = "static_contact"  # of plans: closer than 5 mm to a static body
ANY_VIOLATION = "any_violation"  # of plans, in scenes where bodies rest on static ones
# Column prefix of each nested field.
NESTED = {"variation": "variation", "violations": "violation", "plans": "plans", "indicators": "indicator"}


@dataclass(frozen=True)
class PlanCounts:
    """Numbers of audited plans of an episode in which one kind of violation happens."""

    predicted: int = 0  # in most particles of the model
    realised: int = 0  # in the true simulator
    both: int = 0  # predicted and realised
    expected: float = 0.0  # sum over plans of the share of particles with the violation


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """Outcome and costs of one method in one episode. Fields are also columns of files."""

    run: str
    scene: str
    split: str
    index: int  # number of the layout in its split
    seed: int
    layout_id: str
    layout_name: str = ""
    protocol: str = "default"
    method: str  # name; with a part of the data, the name has a suffix: graph-5k+mppi
    family: str = ""  # name without the suffix: graph+mppi
    model: str = ""
    search: str = ""
    search_samples: int | None = None
    search_iterations: int | None = None
    search_horizon: int | None = None
    train_seed: int | None = None  # None: nothing was trained
    env_steps: int = 0  # env steps of the training data
    data_bytes: int | None = None
    train_cpu_s: float = 0.0  # data collection and training
    collect_cpu_s: float | None = None  # data collection, a part of train_cpu_s
    variation: Variation = field(default_factory=Variation)
    success: bool
    violations: dict[str, bool]  # True for each kind of violation that happened
    steps: int
    total_cost: float  # sum over the steps, in the task's cost unit
    peak_force_n: float  # largest contact force with a static body
    decision_ms_p50: float
    decision_ms_p95: float
    decision_time_s: float  # sum over all decisions
    disagreement: float | None = None  # between particles of the model along chosen plans [m]
    predicted_cost: float | None = None  # of audited plans, mean over their steps
    realised_cost: float | None = None
    random_predicted_cost: float | None = None  # of random plans from the same states
    random_realised_cost: float | None = None
    random_disagreement: float | None = None
    plans_checked: int | None = None  # number of audited plans
    plans: dict[str, PlanCounts] = field(default_factory=dict)  # by kind of violation
    indicators: dict[str, float] = field(default_factory=dict)  # indicators of the scene
    training_distance: float | None = None  # distance of the layout from the training layouts

    @property
    def safe_success(self) -> bool:
        """Success without any violation."""
        return self.success and not any(self.violations.values())

    @property
    def method_label(self) -> str:
        """Name of the method, with the training seed unless it is 0."""
        return format_training_label(self.method, self.train_seed)

    @property
    def split_label(self) -> str:
        """Split, or the name and hash of a custom layout."""
        layout_id = self.split.removeprefix(CUSTOM_SPLIT_PREFIX)
        return format_layout(self.layout_name, layout_id) if is_custom_split(self.split) else self.split

    def to_record(self) -> dict[str, Any]:
        """Flatten to columns."""
        record: dict[str, Any] = {}
        for name, value in asdict(self).items():
            record |= _flatten(NESTED.get(name, name), value)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any], version: int = RESULTS_VERSION) -> "EpisodeResult":
        """Build from columns; missing optional columns take their defaults.

        Args:
            record: columns by name, as `to_record` returns them.
            version: results version of the file.

        Raises:
            KeyError, TypeError: required columns are missing.
        """
        record = migrate_result(record) if version == 1 else record
        if wrong := [name for name, value in record.items() if value is not None and not _has_type(name, value)]:
            raise TypeError(f"{wrong[0]} is of another type")
        nested: dict[str, dict[str, Any]] = {prefix: {} for prefix in NESTED.values()}
        plain = {}
        for column, value in record.items():
            prefix, _, key = column.partition("/")
            if value is not None and prefix in nested:
                nested[prefix][key] = value
            elif value is not None and column in _FIELDS:
                plain[column] = value
        counts: dict[str, dict[str, Any]] = {}
        for key, value in nested["plans"].items():
            kind, _, count = key.rpartition("/")
            counts.setdefault(kind, {})[count] = value
        return cls(
            **plain,
            variation=Variation(**nested["variation"]),
            violations=nested["violation"],
            indicators=nested["indicator"],
            plans={kind: PlanCounts(**values) for kind, values in counts.items()},
        )


_FIELDS = {item.name for item in fields(EpisodeResult)}
_TYPES = get_type_hints(EpisodeResult)
_PREFIX_TYPES = {"violation": bool, "plans": float, "indicator": float}


def _has_type(column: str, value: Any) -> bool:
    """Return True if the value of a column is of the type that the column has in results."""
    prefix, _, key = column.partition("/")
    hint = type(getattr(Variation(), key, None)) if prefix == "variation" else _PREFIX_TYPES.get(prefix, _TYPES.get(column))
    kind = (*get_args(hint), hint)[0]
    template = {str: "", bool: False}.get(kind, 0.0)
    return kind not in (str, bool, int, float) or has_form(value, template)


def _flatten(column: str, value: Any) -> dict[str, Any]:
    """Flatten nested dicts to columns; keys of nested dicts follow after slashes."""
    if not isinstance(value, dict):
        return {column: value}
    return {name: leaf for key, inner in value.items() for name, leaf in _flatten(f"{column}/{key}", inner).items()}


def is_custom_split(split: str) -> bool:
    """Return True if a split holds the episodes of a custom layout."""
    return split.startswith(CUSTOM_SPLIT_PREFIX)


def format_layout(name: str, layout_id: str) -> str:
    """Format the name of a layout with the first 8 digits of its hash."""
    return f"{name} ({layout_id[:8]})" if name else layout_id[:8]


def format_training_label(name: str, train_seed: int | None) -> str:
    """Format a name with the training seed as in graph+mppi@1; seed 0 is left out."""
    return f"{name}@{train_seed}" if train_seed else name


def make_episode_path(path: Path, split: str, index: int, train_seed: int | None) -> Path:
    """Make the path of an episode's file in the directory of its method.

    All training seeds of a method use the same directory.
    """
    return path / (format_training_label(f"{split}-{index:05d}", train_seed) + ".parquet")


def get_episode_path(path: Path, result: EpisodeResult) -> Path:
    """Get the path of a result's episode in the directory of its method."""
    return make_episode_path(path, result.split, result.index, result.train_seed)


def read_episode(path: Path, result: EpisodeResult) -> Episode:
    """Read the episode of a result.

    Raises:
        BadFile: the file is missing or damaged.
    """
    return read_shard(get_episode_path(path, result))[0]


def read_episode_result(file: Path) -> EpisodeResult | None:
    """Read the result beside an episode's file; None where it is missing or unreadable."""
    for suffix in (SUFFIX, OLD_RESULT_SUFFIX):
        with contextlib.suppress(FileNotFoundError):
            file.stat()  # a result without its episode is incomplete
            file_status = file.with_suffix(suffix).stat()
            return _read_result_file(file.with_suffix(suffix), file_status.st_mtime_ns, file_status.st_ino)
    return None


@lru_cache(maxsize=100_000)
def _read_result_file(file: Path, modified_ns: int, inode: int) -> EpisodeResult | None:
    """Read a file once; a report needs each result several times."""
    with contextlib.suppress(BadFile, IndexError):
        return read_result_table(file)[0]
    return None


def read_result_table(file: Path) -> list[EpisodeResult]:
    """Read a Parquet file of results.

    Raises:
        BadFile: the file is damaged or has an unknown version.
    """
    try:
        table = pq.read_table(file)
        metadata = table.schema.metadata or {}
        version = int(metadata.get(b"results_version", metadata.get(b"rows_version", b"0")))
        if version in (1, RESULTS_VERSION):
            return [EpisodeResult.from_record(record, version) for record in table.to_pylist()]
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise BadFile(f"{file} is damaged ({(str(error) or type(error).__name__).splitlines()[0]})") from error
    raise BadFile(f"{file} has results of version {version}, this program reads {RESULTS_VERSION}")


def write_result_table(file: Path, results: Iterable[EpisodeResult], compression: str = "zstd") -> None:
    """Write results as one Parquet file; columns that a result lacks are null."""
    records = [result.to_record() for result in results]
    names = dict.fromkeys(name for record in records for name in record)
    table = pa.Table.from_pylist([{name: record.get(name) for name in names} for record in records])
    table = table.replace_schema_metadata({"results_version": str(RESULTS_VERSION)})
    write_atomic(file, lambda target: pq.write_table(table, target, compression=compression))


def write_episode_result(file: Path, result: EpisodeResult) -> None:
    """Write a result into the directory of its episode's file."""
    write_result_table(file.with_suffix(SUFFIX), [result])


def read_episode_results(path: Path) -> list[EpisodeResult]:
    """Read all results below a directory, except those of damaged files."""
    results = [read_episode_result(file) for file in _find_result_files(path)]
    return [result for result in results if result is not None]


def find_unreadable_results(path: Path) -> list[Path]:
    """Find result files below a directory that are damaged or of another version."""
    return [file for file in _find_result_files(path) if read_episode_result(file) is None]


def _find_result_files(path: Path) -> list[Path]:
    return sorted(file for suffix in (SUFFIX, OLD_RESULT_SUFFIX) for file in path.rglob(f"*{suffix}"))
