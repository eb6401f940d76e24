"""Datasets on disk: Parquet shards with a row for each state, and a manifest.

The manifest has versions, units and content hashes, as JSON in the metadata of a Parquet file
without rows: pandas, Polars, PyArrow and DuckDB open the directory as one table, and Polars refuses
a directory with a file of another kind. Shards are written atomically, so a directory holds
complete shards only. The metadata of a shard has all other data of its episodes, such as layout,
seed and variation.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sim.bodies import CONTROL_DT_S, Kind
from sim.data.episode import Episode, EpisodeSource
from sim.layout import Layout
from sim.utils.errors import BadFile, GroundError
from sim.utils.files import has_form, hash_file, lock_directory, read_json, write_atomic
from sim.variation import Variation

SCHEMA_VERSION = 2
UNITS = {
    "pose": "m, quaternion xyzw, world frame",
    "twist": "m/s, rad/s, world frame",
    "action": "-1..1",
    "cost": "the task's cost_unit_m",
    "static_force_n": "N",
    "control_dt_s": "s",
}
MANIFEST = "_manifest.parquet"
JSON_MANIFEST = "manifest.json"  # of older datasets
IMAGE_PREFIX = "image."  # prefix of the columns that hold images
BODY_COLUMNS = {"measured_inertia": 4}  # width for each body; only in files of episodes that have it
LABELS = ("cost", "touching", "static_force_n", "violation")  # columns that an episode may lack
STATE_COLUMNS = ("pose", "twist", "action", "time_s", "visible", *LABELS, *BODY_COLUMNS)
SHARD_TEMPLATE = {"sha256": "", "steps": 0, "episodes": 0, "layout_ids": [""], "behaviours": {}, "bytes": 0}
MANIFEST_TEMPLATE = {"scene": "", "split": "", "images": {"cameras": [""], "size": [0], "every": 0, "rgb": ""}}
EPISODE_TEMPLATE = {  # see `has_form`
    **{"rows": 0, "behaviour": "", "unit_m": 0.0, "labels": [""], "half_extents": [[0.0]], "layout": {}},
    "source": {"scene": "", "seed": 0, "file": "", "clock": ""},
    "variation": {name: value if isinstance(value, str) else 0.0 for name, value in asdict(Variation()).items()},
}
BODY_ARRAYS = ("footprints", "action_twist", "kind", "shape")  # arrays in the metadata of an episode


def _describe_episode(episode: Episode) -> dict[str, Any]:
    """Describe the data that is constant over an episode, for JSON."""
    arrays = {name: getattr(episode, name) for name in BODY_ARRAYS}
    if episode.shape is None:  # files of scenes without it stay the same
        arrays.pop("shape")
    return {
        "layout": episode.layout.to_json(),
        "layout_id": episode.layout.id,
        "source": asdict(episode.source),
        "behaviour": episode.behaviour,
        "variation": asdict(episode.variation),
        "half_extents": np.asarray(episode.half_extents, float).tolist(),
        "rows": len(episode),
        "success": episode.success,
        "unit_m": episode.unit_m,
        "labels": [name for name in LABELS if getattr(episode, name) is not None],
        "has_times": episode.time_s is not None,
        "has_visibility": episode.visible is not None,
        **({"has_skills": True} if episode.has_skills else {}),
        **{name: None if values is None else np.asarray(values, float).tolist() for name, values in arrays.items()},
    }


def write_shard(path: Path, episodes: list[Episode], first_episode: int, num_bodies: int) -> None:
    """Write episodes as a Parquet file with a row for each state.

    Args:
        path: the file.
        episodes: the episodes.
        first_episode: number of the first episode in its dataset.
        num_bodies: number of bodies in the file; episodes with fewer bodies are padded with zeros.
    """
    rows = [len(episode) for episode in episodes]

    def repeat(values: list[Any]) -> np.ndarray:
        return np.repeat(np.asarray(values), rows)

    def has(name: str) -> bool:
        return any(getattr(episode, name) is not None for episode in episodes)

    def stack(name: str, dtype: type, width: int) -> pa.Array:
        parts = []
        for episode in episodes:
            values = getattr(episode, name)
            values = np.ones(episode.pose.shape[:2]) if values is None else np.asarray(values)
            if name != "action":
                values = np.pad(values, [(0, 0), (0, num_bodies - values.shape[1]), *[(0, 0)] * (values.ndim - 2)])
            parts.append(values.reshape(len(episode), -1).astype(dtype))
        return pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(parts).ravel()), width)

    def join(name: str, dtype: type) -> np.ndarray:
        parts = [getattr(episode, name) for episode in episodes]
        parts = [np.zeros(n) if part is None else part for part, n in zip(parts, rows, strict=True)]
        return np.concatenate([np.asarray(part, dtype) for part in parts])

    control_times = [np.arange(len(e)) * CONTROL_DT_S if e.time_s is None else e.time_s for e in episodes]
    images = {name: [row for e in episodes for row in (e.images or {})[name]] for name in episodes[0].images or {}}
    table = pa.table(
        {
            "episode": repeat([first_episode + i for i in range(len(episodes))]),
            "step": np.concatenate([np.arange(n, dtype=np.int32) for n in rows]),
            "time_s": np.concatenate(control_times),
            "layout_id": repeat([episode.layout.id for episode in episodes]),
            "seed": repeat([episode.seed for episode in episodes]),
            "behaviour": repeat([episode.behaviour for episode in episodes]),
            "last": np.concatenate([np.arange(n) == n - 1 for n in rows]),
            "pose": stack("pose", np.float32, num_bodies * 7),
            "twist": stack("twist", np.float32, num_bodies * 6),
            "visible": stack("visible", np.bool_, num_bodies),
            "action": stack("action", np.float32, episodes[0].action.shape[1]),
            "cost": join("cost", np.float32),
            "touching": join("touching", np.bool_),
            "static_force_n": join("static_force_n", np.float32),
            **({"violation": join("violation", np.bool_)} if has("violation") else {}),
            **{name: stack(name, np.float32, num_bodies * width) for name, width in BODY_COLUMNS.items() if has(name)},
            **{name: pa.array(values, pa.binary()) for name, values in images.items()},
        }
    )
    metadata = {"episodes": json.dumps(list(map(_describe_episode, episodes))), "schema_version": str(SCHEMA_VERSION)}
    table = table.replace_schema_metadata(metadata)
    write_atomic(path, lambda file: pq.write_table(table, file, compression="zstd", use_dictionary=["layout_id", "behaviour"]))


def read_shard(path: Path) -> list[Episode]:
    """Read the episodes of a shard, without images.

    Raises:
        BadFile: the file is missing, damaged or of another version.
    """
    try:
        names = pq.read_schema(path).names
        table = pq.read_table(path, columns=[name for name in STATE_COLUMNS if name in names])
        metadata = table.schema.metadata or {}
        version = int(metadata.get(b"schema_version", b"0"))
        if version not in (1, SCHEMA_VERSION):
            raise BadFile(f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}")
        metas = json.loads(metadata[b"episodes"])
        if version == 1:
            metas = [_migrate_metadata(meta) for meta in metas]
        if not has_form(metas, [EPISODE_TEMPLATE]):
            raise ValueError("the metadata of an episode have another form")
        return list(_parse_episodes(table, metas))
    except BadFile:
        raise
    except (
        pa.ArrowException,
        OSError,
        LookupError,
        ValueError,
        TypeError,
        ArithmeticError,
        RecursionError,
        GroundError,
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadFile(f"{path} is damaged ({reason})") from error


def _migrate_metadata(meta: dict[str, Any]) -> dict[str, Any]:
    """Convert the metadata of an episode from schema version 1.

    Its episodes have all labels, and neither times nor visibility.
    """
    variation = {"appearance" if name == "looks" else name: value for name, value in meta["variation"].items()}
    old_twist = meta.get("action_limits")
    return {
        "unit_m": 1.0,
        **meta,
        "variation": variation,
        "source": {"seed": meta["seed"]},
        "labels": list(LABELS),
        "has_times": False,
        "has_visibility": False,
        "footprints": meta.get("pieces"),
        "kind": meta.get("kinds"),
        "action_twist": None if old_twist is None else [*old_twist[:2], [0] * 2, [0] * 2, [0] * 2, old_twist[2]],
    }


def _parse_episodes(table: pa.Table, metas: list[dict[str, Any]]) -> Iterator[Episode]:
    if sum(meta["rows"] for meta in metas) != len(table):
        raise ValueError("the numbers of rows in table and metadata disagree")
    columns = {name: _read_column(table, name) for name in table.column_names}
    start = 0
    for meta in metas:
        rows = slice(start, start + meta["rows"])
        start += meta["rows"]
        half_extents = np.asarray(meta["half_extents"])
        bodies = len(half_extents)
        arrays: dict[str, Any] = {name: np.asarray(meta[name]) for name in BODY_ARRAYS if meta.get(name) is not None}
        if (
            not all(np.isfinite(values).all() for values in arrays.values())
            or not np.isin(arrays.get("kind", []), list(Kind)).all()
        ):
            raise ValueError("a body has an unknown kind, or a size that is not finite")
        arrays |= {name: columns[name][rows, 0] for name in meta["labels"]}
        if meta["has_times"]:
            arrays["time_s"] = columns["time_s"][rows, 0]
        if meta["has_visibility"]:
            arrays["visible"] = columns["visible"][rows, :bodies]
        for name in set(BODY_COLUMNS) & set(columns):
            arrays[name] = columns[name][rows].reshape(meta["rows"], -1, BODY_COLUMNS[name])[:, :bodies]
        yield Episode(
            layout=Layout.from_json(meta["layout"]),
            source=EpisodeSource(**meta["source"]),
            behaviour=meta["behaviour"],
            variation=Variation(**meta["variation"]),
            half_extents=half_extents,
            pose=columns["pose"][rows].reshape(meta["rows"], -1, 7)[:, :bodies],
            twist=columns["twist"][rows].reshape(meta["rows"], -1, 6)[:, :bodies],
            action=columns["action"][rows],
            success=meta["success"],
            unit_m=meta["unit_m"],
            has_skills=bool(meta.get("has_skills", False)),
            **arrays,
        )


def _read_column(table: pa.Table, name: str) -> np.ndarray:
    """Read a column of scalars or lists as an array (rows, width)."""
    column = table[name].combine_chunks()
    if column.null_count:
        raise ValueError(f"column {name} lacks values")
    values = (column.flatten() if pa.types.is_fixed_size_list(column.type) else column).to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "fiub":
        raise ValueError(f"column {name} does not hold numbers in every row")
    return values.reshape(len(table), -1)


@dataclass(frozen=True)
class Dataset:
    """A directory of shards with a manifest."""

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Dataset":
        """Open a dataset: read its manifest.

        Raises:
            BadFile: there is no manifest, or it is damaged or of another version.
        """
        manifest = _read_manifest(path)
        version = manifest.get("schema_version") if isinstance(manifest, dict) else None
        if version not in (1, SCHEMA_VERSION):
            raise BadFile(f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}: collect it again")
        shards = manifest.get("shards")
        are_described = isinstance(shards, dict) and all(
            has_form(shard, SHARD_TEMPLATE) and {"sha256", "steps", "layout_ids"} <= shard.keys() for shard in shards.values()
        )
        if not ({"scene", "split"} <= manifest.keys() and are_described and has_form(manifest, MANIFEST_TEMPLATE)):
            raise BadFile(f"{path}: its manifest is damaged: scene, split or a description of a shard is missing")
        return cls(path, manifest)

    @property
    def scene(self) -> str:
        """Name of the scene."""
        return str(self.manifest["scene"])

    @property
    def steps(self) -> int:
        """Number of states."""
        return sum(shard["steps"] for shard in self.manifest["shards"].values())

    @property
    def layout_ids(self) -> frozenset[str]:
        """Ids of the layouts of all episodes."""
        return frozenset(layout for shard in self.manifest["shards"].values() for layout in shard["layout_ids"])

    @cached_property
    def content_hash(self) -> str:
        """Hash of all shards, which identifies the training data of a model."""
        return "-".join(shard["sha256"][:8] for _, shard in sorted(self.manifest["shards"].items()))

    def find_faults(self) -> list[str]:
        """Find missing and damaged shards, one line each."""
        faults = []
        for name, shard in sorted(self.manifest["shards"].items()):
            file = self.path / name
            if not file.exists():
                faults.append(f"{name}: missing")
            elif hash_file(file) != shard["sha256"]:
                faults.append(f"{name}: damaged (its content is not what was written)")
        return faults

    def episodes(self, damaged: list[str] | None = None) -> Iterator[Episode]:
        """Read all episodes.

        Args:
            damaged: receives the messages of damaged shards, which are left out; None: BadFile is
                raised.

        Yields:
            The episodes, in the order of their shards.
        """
        for name in sorted(self.manifest["shards"]):
            try:
                yield from read_shard(self.path / name)
            except BadFile as error:
                if damaged is None:
                    raise
                damaged.append(str(error))


def make_manifest(config: dict[str, Any]) -> dict[str, Any]:
    """Make the manifest of a dataset without shards."""
    return {"schema_version": SCHEMA_VERSION, "units": UNITS, **config, "shards": {}}


def has_manifest(path: Path) -> bool:
    """Return True if a directory holds a dataset."""
    return (path / MANIFEST).exists() or (path / JSON_MANIFEST).exists()


def _read_manifest(path: Path) -> Any:
    if not (path / MANIFEST).exists():
        if not (path / JSON_MANIFEST).exists():
            raise BadFile(f"{path} is no dataset: it has no {MANIFEST}")
        return read_json(path / JSON_MANIFEST)
    try:
        return json.loads((pq.read_schema(path / MANIFEST).metadata or {})[b"manifest"])
    except (OSError, ValueError, KeyError, RecursionError, pa.ArrowException) as error:
        raise BadFile(f"{path / MANIFEST} is damaged ({str(error).splitlines()[0]})") from error


def save_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest of the dataset in a directory, with the columns of its first shard."""
    schema = next((pq.read_schema(path / name) for name in manifest["shards"]), pa.schema([]))
    table = schema.empty_table().replace_schema_metadata({"manifest": json.dumps(manifest, indent=1)})
    write_atomic(path / MANIFEST, lambda file: pq.write_table(table, file))
    (path / JSON_MANIFEST).unlink(missing_ok=True)


def make_shard_name(number: int) -> str:
    """Make the file name of a shard."""
    return f"shard-{number:05d}.parquet"


def describe_shard(file: Path) -> dict[str, Any]:
    """Describe a shard in the manifest.

    Raises:
        BadFile: the shard is damaged.
    """
    episodes = read_shard(file)
    names = sorted({episode.behaviour for episode in episodes})
    return {
        "sha256": hash_file(file),
        "steps": sum(len(episode) for episode in episodes),
        "episodes": len(episodes),
        "layout_ids": sorted({episode.layout.id for episode in episodes}),
        "behaviours": {name: sum(len(e) for e in episodes if e.behaviour == name) for name in names},
        "bytes": file.stat().st_size,
    }


def append_episode(path: Path, scene: str, split: str, episode: Episode) -> Dataset:
    """Append an episode to a dataset as a shard of its own. A missing dataset is created.

    Args:
        path: directory of the dataset.
        scene: name of the scene of all its episodes.
        split: split of all its episodes.
        episode: the episode.

    Raises:
        GroundError: the dataset has another scene or split, or is in use.
        BadFile: the manifest is damaged.
    """
    with lock_directory(path):
        if has_manifest(path):
            manifest = Dataset.open(path).manifest
            if (manifest["scene"], manifest["split"]) != (scene, split):
                held = f"{manifest['scene']}, split {manifest['split']}"
                raise GroundError(f"{path} holds episodes of {held}: choose another directory")
        else:
            manifest = make_manifest({"scene": scene, "split": split})
        number = 1 + max((int(Path(name).stem.rpartition("-")[2]) for name in manifest["shards"]), default=-1)
        file = path / make_shard_name(number)
        write_shard(file, [episode], first_episode=number * 10_000, num_bodies=episode.pose.shape[1])
        manifest["shards"][file.name] = describe_shard(file)
        save_manifest(path, manifest)
    return Dataset.open(path)
