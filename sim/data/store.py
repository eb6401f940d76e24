"""Episodes on disk: Parquet shards, one row per step, and a JSON manifest with versions, units and content hashes.

A shard is written under a temporary name, flushed and renamed, so what the directory holds is always whole. Everything needed to
rebuild an episode (layout, seed, variation) lies in its shard's own metadata.
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

from sim.bodies import CONTROL_DT_S
from sim.data.episode import Episode, EpisodeSource
from sim.layout import Layout
from sim.utils.errors import BadFile, BadLayout, GroundError
from sim.utils.files import hash_file, lock_directory, read_json, write_atomic, write_json
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
MANIFEST = "manifest.json"
IMAGE_PREFIX = "image."  # with this, names of columns begin that hold pictures (sim/pictures.py)


STATE_COLUMNS = ("pose", "twist", "action", "time_s", "visible", "cost", "touching", "static_force_n")
LABELS = ("cost", "touching", "static_force_n")  # columns that an episode may lack
BODY_ARRAYS = ("footprints", "action_twist", "kind")  # of an episode, kept in its metadata


def _describe_episode(episode: Episode) -> dict[str, Any]:
    """Describe in JSON what is the same in all states of an episode."""
    optional = {name: getattr(episode, name) for name in BODY_ARRAYS}
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
        **{name: None if values is None else np.asarray(values, float).tolist() for name, values in optional.items()},
    }


def write_shard(path: Path, episodes: list[Episode], first_episode: int, num_bodies: int) -> None:
    """Write episodes as one Parquet file, a row for each state.

    Args:
        first_episode: number of the first episode in its dataset.
        num_bodies: rows of bodies; those that an episode lacks are padded with zeros.
    """
    rows = [len(episode) for episode in episodes]

    def repeat(values: list[Any]) -> np.ndarray:
        return np.repeat(np.asarray(values), rows)

    def stack(name: str, kind: type, width: int) -> pa.Array:
        parts = []
        for episode in episodes:
            values = getattr(episode, name)
            values = np.ones(episode.pose.shape[:2]) if values is None else np.asarray(values)
            if name != "action":
                values = np.pad(values, [(0, 0), (0, num_bodies - values.shape[1]), *[(0, 0)] * (values.ndim - 2)])
            parts.append(values.reshape(len(episode), -1).astype(kind))
        return pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(parts).ravel()), width)

    def join(name: str, kind: type) -> np.ndarray:
        parts = [getattr(episode, name) for episode in episodes]
        return np.concatenate([np.zeros(n, kind) if p is None else np.asarray(p, kind) for p, n in zip(parts, rows, strict=True)])

    control_times = [np.arange(len(e)) * CONTROL_DT_S if e.time_s is None else e.time_s for e in episodes]
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
            **_make_image_columns(episodes),
        }
    )
    metadata = {"episodes": json.dumps(list(map(_describe_episode, episodes))), "schema_version": str(SCHEMA_VERSION)}
    table = table.replace_schema_metadata(metadata)
    write_atomic(path, lambda to: pq.write_table(table, to, compression="zstd", use_dictionary=["layout_id", "behaviour"]))


def _make_image_columns(episodes: list[Episode]) -> dict[str, pa.Array]:
    columns = episodes[0].images or {}
    return {name: pa.array([row for e in episodes for row in (e.images or {})[name]], pa.binary()) for name in columns}


def read_shard(path: Path) -> list[Episode]:
    """Every episode of one shard, or BadFile that names it."""
    try:
        table = pq.read_table(path, columns=list(STATE_COLUMNS))
        metadata = table.schema.metadata or {}
        version = int(metadata.get(b"schema_version", b"0"))
        if version != SCHEMA_VERSION:
            raise BadFile(f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}")
        metas = json.loads(metadata[b"episodes"])
        return list(_parse_episodes(table, metas))
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, RecursionError, BadLayout) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadFile(f"{path} is damaged ({reason})") from error


def _parse_episodes(table: pa.Table, metas: list[dict[str, Any]]) -> Iterator[Episode]:
    if sum(meta["rows"] for meta in metas) != len(table):
        raise ValueError("rows and episodes disagree")

    def flat(name: str) -> np.ndarray:
        column = table[name].combine_chunks()
        values = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
        return values.to_numpy(zero_copy_only=False).reshape(len(table), -1)

    columns = {name: flat(name) for name in STATE_COLUMNS}
    start = 0
    for meta in metas:
        rows = slice(start, start + meta["rows"])
        start += meta["rows"]
        half = np.asarray(meta["half_extents"])
        bodies = len(half)
        arrays: dict[str, Any] = {name: np.asarray(meta[name]) for name in BODY_ARRAYS if meta.get(name) is not None}
        arrays |= {name: columns[name][rows, 0] for name in meta["labels"]}
        if meta["has_times"]:
            arrays["time_s"] = columns["time_s"][rows, 0]
        if meta["has_visibility"]:
            arrays["visible"] = columns["visible"][rows, :bodies]
        yield Episode(
            layout=Layout.from_json(meta["layout"]),
            source=EpisodeSource(**meta["source"]),
            behaviour=meta["behaviour"],
            variation=Variation(**meta["variation"]),
            half_extents=half,
            pose=columns["pose"][rows].reshape(meta["rows"], -1, 7)[:, :bodies],
            twist=columns["twist"][rows].reshape(meta["rows"], -1, 6)[:, :bodies],
            action=columns["action"][rows],
            success=meta["success"],
            unit_m=meta["unit_m"],
            **arrays,
        )


@dataclass(frozen=True)
class Dataset:
    """A directory of shards under one manifest."""

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Dataset":
        if not (path / MANIFEST).exists():
            raise BadFile(f"{path} is no dataset: it has no {MANIFEST}")
        manifest = read_json(path / MANIFEST)
        version = manifest.get("schema_version") if isinstance(manifest, dict) else None
        if version != SCHEMA_VERSION:
            raise BadFile(f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}: collect it again")
        shards = manifest.get("shards")
        if (
            not {"scene", "split"} <= manifest.keys()
            or not isinstance(shards, dict)
            or not all(map(_is_shard_entry, shards.values()))
        ):
            raise BadFile(f"{path / MANIFEST} is damaged: it does not say what the shards hold")
        return cls(path, manifest)

    @property
    def scene(self) -> str:
        return str(self.manifest["scene"])

    @property
    def steps(self) -> int:
        return sum(shard["steps"] for shard in self.manifest["shards"].values())

    @property
    def layout_ids(self) -> frozenset[str]:
        return frozenset(layout for shard in self.manifest["shards"].values() for layout in shard["layout_ids"])

    @cached_property
    def content_hash(self) -> str:
        """Hash of all shards: what a model trained on."""
        return "-".join(shard["sha256"][:8] for _, shard in sorted(self.manifest["shards"].items()))

    def find_faults(self) -> list[str]:
        """Shards that are missing or not what the manifest says, one line each."""
        faults = []
        for name, shard in sorted(self.manifest["shards"].items()):
            file = self.path / name
            if not file.exists():
                faults.append(f"{name}: missing")
            elif hash_file(file) != shard["sha256"]:
                faults.append(f"{name}: damaged (its content is not what was written)")
        return faults

    def episodes(self, damaged: list[str] | None = None) -> Iterator[Episode]:
        """Every readable episode; names of damaged shards are added to `damaged`, or raised where it is None."""
        for name in sorted(self.manifest["shards"]):
            try:
                yield from read_shard(self.path / name)
            except BadFile as error:
                if damaged is None:
                    raise
                damaged.append(str(error))


def _is_shard_entry(shard: Any) -> bool:
    return isinstance(shard, dict) and {"sha256", "steps", "layout_ids"} <= shard.keys()


def make_manifest(config: dict[str, Any]) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "units": UNITS, **config, "shards": {}}


def save_manifest(path: Path, manifest: dict[str, Any]) -> None:
    write_json(path / MANIFEST, manifest)


def make_shard_name(number: int) -> str:
    return f"shard-{number:05d}.parquet"


def describe_shard(file: Path) -> dict[str, Any]:
    """What the manifest says of a shard."""
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
    """Add one episode, from wherever it came, to the dataset at `path`, which is begun where there is none."""
    with lock_directory(path):
        if (path / MANIFEST).exists():
            dataset = Dataset.open(path)
            manifest = dataset.manifest
            if (dataset.scene, manifest["split"]) != (scene, split):
                raise GroundError(
                    f"{path} holds episodes of {dataset.scene}, split {manifest['split']}: choose another directory"
                )
        else:
            manifest = make_manifest({"scene": scene, "split": split})
        number = 1 + max((int(Path(name).stem.rpartition("-")[2]) for name in manifest["shards"]), default=-1)
        file = path / make_shard_name(number)
        write_shard(file, [episode], first_episode=number * 10_000, num_bodies=episode.pose.shape[1])
        manifest["shards"][file.name] = describe_shard(file)
        save_manifest(path, manifest)
    return Dataset.open(path)
