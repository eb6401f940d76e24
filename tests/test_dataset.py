import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.cli import main
from sim.data.episode import Episode, EpisodeSource
from sim.data.store import JSON_MANIFEST, MANIFEST, Dataset, read_shard, save_manifest, write_shard
from sim.scenes.scene import scenes
from sim.utils.errors import BadFile, GroundError
from sim.utils.files import write_json
from sim.variation import Variation

MAX_DYNAMIC = 4


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    """Draw an episode that fits the schema, with one to 30 rows and one to three loads."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, num_dynamic = draw(st.integers(1, 30)), draw(st.integers(2, MAX_DYNAMIC))

    def sample_array(*shape: int) -> np.ndarray:
        return rng.normal(0, 10 ** rng.uniform(-3, 3), shape).astype(np.float32)

    return Episode(
        layout=scenes["logistics/tote-push"].sample_layout("test", draw(st.integers(0, 5))),
        source=EpisodeSource(seed=draw(st.integers(0, 2**31))),
        behaviour=draw(st.text(st.characters(codec="utf-8"), max_size=12)),
        variation=Variation(draw(st.floats(0.1, 100)), latency_steps=draw(st.integers(0, 10))),
        half_extents=np.abs(sample_array(num_dynamic, 3)).astype(np.float64),
        pose=sample_array(rows, num_dynamic, 7),
        twist=sample_array(rows, num_dynamic, 6),
        action=sample_array(rows, 2),
        cost=sample_array(rows),
        touching=rng.random(rows) < 0.5,
        static_force_n=np.abs(sample_array(rows)),
        success=draw(st.booleans()),
    )


def are_equal(first: Episode, second: Episode) -> bool:
    pairs = [(getattr(first, field.name), getattr(second, field.name)) for field in fields(Episode)]
    return all(np.array_equal(a, b) and a.dtype == b.dtype if isinstance(a, np.ndarray) else a == b for a, b in pairs)


@given(st.lists(episodes(), min_size=1, max_size=4), st.integers(0, 10**6))
def test_written_episodes_are_read(tmp_path_factory: pytest.TempPathFactory, written: list[Episode], first: int) -> None:
    file = tmp_path_factory.mktemp("shard") / "shard.parquet"
    write_shard(file, written, first, MAX_DYNAMIC)
    stored = read_shard(file)
    assert len(stored) == len(written)
    assert all(map(are_equal, written, stored))
    columns = pq.read_table(file, columns=["episode", "step", "last"]).to_pydict()
    assert sorted(set(columns["episode"])) == list(range(first, first + len(written)))
    assert sum(columns["last"]) == len(written)
    content = file.read_bytes()
    write_shard(file, written, first, MAX_DYNAMIC)
    assert file.read_bytes() == content


@pytest.fixture
def copy(dataset: Dataset, tmp_path: Path) -> Dataset:
    """Copy the dataset, for tests that damage it."""
    return Dataset.open(Path(shutil.copytree(dataset.path, tmp_path / "copy")))


def test_a_dataset_counts_its_steps_and_layouts(dataset: Dataset) -> None:
    episodes = list(dataset.episodes())
    assert dataset.steps == sum(map(len, episodes)) == 1200
    assert dataset.layout_ids == {episode.layout.id for episode in episodes}
    assert dataset.find_faults() == []
    assert dataset.scene == "logistics/tote-push"
    assert all(len(part) == 8 for part in dataset.content_hash.split("-"))


@pytest.mark.parametrize("size", [0, 4, 1000, -1])
def test_a_truncated_shard_is_named_and_the_rest_is_read(copy: Dataset, size: int, capsys: pytest.CaptureFixture[str],
                                                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    complete = list(copy.episodes())
    shard = copy.path / "shard-00001.parquet"
    removed = read_shard(shard)
    shard.write_bytes(shard.read_bytes()[:size])
    damaged: list[str] = []
    readable = list(copy.episodes(damaged))
    assert len(readable) == len(complete) - len(removed)
    assert len(damaged) == 1
    assert str(shard) in damaged[0]
    assert copy.find_faults() == ["shard-00001.parquet: damaged (its content is not what was written)"]
    with pytest.raises(BadFile, match=r"shard-00001\.parquet"):
        list(copy.episodes())
    monkeypatch.setattr("sys.argv", ["ground", "data", "info", str(copy.path)])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert "shard-00001.parquet" in out
    assert f"{sum(map(len, readable))} readable steps" in out.replace("\n", " ")
    assert err.count("\n") == 1


def test_a_missing_shard_and_changed_bytes_are_named(copy: Dataset) -> None:
    (copy.path / "shard-00000.parquet").unlink()
    content = bytearray((copy.path / "shard-00002.parquet").read_bytes())
    content[200] ^= 255
    (copy.path / "shard-00002.parquet").write_bytes(content)
    assert [fault.split(" (")[0] for fault in copy.find_faults()] == [
        "shard-00000.parquet: missing",
        "shard-00002.parquet: damaged",
    ]


def test_a_shard_whose_rows_and_episodes_disagree_is_damaged(copy: Dataset) -> None:
    shard = copy.path / "shard-00000.parquet"
    table = pq.read_table(shard)
    pq.write_table(table.slice(0, 300), shard)
    with pytest.raises(BadFile, match="disagree"):
        read_shard(shard)
    pq.write_table(table.drop_columns(["cost"]), shard)
    with pytest.raises(BadFile, match="cost"):
        read_shard(shard)
    metadata = {**table.schema.metadata, b"schema_version": b"9"}
    pq.write_table(table.replace_schema_metadata(metadata), shard)
    with pytest.raises(BadFile, match="schema version 9"):
        read_shard(shard)

    def change(**changes: Any) -> bytes:
        first, *others = json.loads(table.schema.metadata[b"episodes"])
        return json.dumps([first | changes, *others]).encode()

    for name in ("pose", "touching", "cost"):
        index = table.column_names.index(name)
        for values in (pa.array(["x"] * len(table)), pa.nulls(len(table), table[name].type)):
            pq.write_table(table.set_column(index, name, values), shard)
            with pytest.raises(BadFile, match="shard-00000"):
                read_shard(shard)
    forward = pa.array(np.zeros((len(table), 1)).tolist(), pa.list_(pa.float32(), 1))
    pq.write_table(table.set_column(table.column_names.index("action"), "action", forward), shard)
    with pytest.raises(BadFile, match="action_twist of an episode has the shape"):
        read_shard(shard)
    changes: list[dict[str, Any]] = [{"unit_m": "x"}, {"behaviour": 3}, {"half_extents": [[1, None, 1]]}, {"rows": -1}]
    changes += [{"kind": [99, 1]}, {"variation": {"load_mass_kg": "x"}}, {"kind": [1]}, {"action_twist": [[1.0]] * 6}]
    changes += [{"half_extents": [[1.0]] * 2}, {"footprints": [[1.0] * 4] * 2}, {"footprints": []}]
    for broken in (b"nonsense", b"[]", b"{}", b'[{"rows": 400}]', b"[1]", *(change(**item) for item in changes)):
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"episodes": broken}), shard)
        with pytest.raises(BadFile, match="shard-00000"):
            read_shard(shard)


@pytest.mark.parametrize("version", [0, 9, "2", None])
def test_another_schema_version_is_refused(copy: Dataset, version: object) -> None:
    save_manifest(copy.path, {**copy.manifest, "schema_version": version})
    with pytest.raises(BadFile, match=f"schema version {version}"):
        Dataset.open(copy.path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '"x"', "[" * 100_000, '{"schema_version": 1}', '{"schema_version": 1, "scene": "a", "split": "b"}',
     '{"schema_version": 1, "scene": "a", "split": "b", "shards": {"shard-00000.parquet": {}}}',
     '{"schema_version": 1, "scene": 3, "split": "b", "shards": {}}',
     '{"schema_version": 1, "scene": "a", "split": "b", "shards": {"x": {"sha256": 1, "steps": 0, "layout_ids": []}}}'],
)  # fmt: skip
def test_a_damaged_manifest_is_refused(copy: Dataset, text: str) -> None:
    pq.write_table(pa.table({}).replace_schema_metadata({"manifest": text}), copy.path / MANIFEST)
    with pytest.raises(GroundError) as caught:
        Dataset.open(copy.path)
    assert "\n" not in str(caught.value)
    (copy.path / MANIFEST).unlink()
    (copy.path / JSON_MANIFEST).write_text(text)
    with pytest.raises(GroundError):
        Dataset.open(copy.path)


def test_bytes_that_are_no_manifest_are_refused(copy: Dataset) -> None:
    for content in (b"", b"{}", (copy.path / MANIFEST).read_bytes()[:-9]):
        (copy.path / MANIFEST).write_bytes(content)
        with pytest.raises(BadFile, match="damaged"):
            Dataset.open(copy.path)


def test_a_json_manifest_of_an_older_dataset_is_read_and_replaced(copy: Dataset) -> None:
    (copy.path / MANIFEST).unlink()
    write_json(copy.path / JSON_MANIFEST, copy.manifest)
    assert Dataset.open(copy.path) == copy
    save_manifest(copy.path, copy.manifest)
    assert not (copy.path / JSON_MANIFEST).exists()
    assert Dataset.open(copy.path) == copy


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "duckdb"])
def test_other_libraries_open_the_directory_as_a_table(dataset: Dataset, library: str) -> None:
    module: Any = pytest.importorskip(library)
    path = str(dataset.path)
    if library == "duckdb":
        steps, episodes = module.sql(f"select count(*), count(distinct episode) from '{path}/*.parquet'").fetchall()[0]
        assert module.sql(f"select count(*) from read_parquet('{path}')").fetchall()[0] == (steps,)
    elif library == "pyarrow":
        table = pq.read_table(path)
        steps, episodes = len(table), len(set(table["episode"].to_pylist()))
    else:
        frame = module.read_parquet(path)
        steps, episodes = len(frame), frame["episode"].n_unique() if library == "polars" else frame["episode"].nunique()
    assert (steps, episodes) == (dataset.steps, len(list(dataset.episodes())))


def test_a_missing_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no dataset"):
        Dataset.open(tmp_path / "nothing")


def test_the_digest_depends_on_the_content(dataset: Dataset) -> None:
    shards = dict(dataset.manifest["shards"])
    first, *remaining = sorted(shards)
    changed = {**shards, first: {**shards[first], "sha256": "0" * 64}}
    assert replace(dataset, manifest={**dataset.manifest, "shards": changed}).content_hash != dataset.content_hash
    assert (
        replace(dataset, manifest={**dataset.manifest, "shards": {k: shards[k] for k in remaining}}).content_hash
        != dataset.content_hash
    )
