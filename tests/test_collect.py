import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, read_files
from helpers import interrupt_at

from sim.data import collect as module
from sim.data.collect import CollectConfig, ShardResult, collect
from sim.data.images import ImageConfig
from sim.data.store import MANIFEST, Dataset, read_shard, save_manifest
from sim.env import GroundEnv
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError, UnknownName
from sim.variation import Variation

SMALL = CollectConfig(
    steps=4000, shard_steps=2000, behaviours=(("smooth-random", 1.0),)
)  # the configuration of the commands below
WORDS = ("--steps", 4000, "--behaviours", "smooth-random=1")


def test_a_dataset_has_images_in_all_shards_or_in_none(tmp_path: Path) -> None:
    with_images = replace(TINY, steps=400, images=ImageConfig(("overhead",), (16, 16), 50))
    collect(with_images, tmp_path / "with_images", workers=1)
    with pytest.raises(GroundError, match=r"another configuration \(images\)"):
        collect(replace(with_images, steps=800, images=None), tmp_path / "with_images", workers=1)


def test_the_cost_of_each_new_shard_is_reported_once(tmp_path: Path) -> None:
    results: list[ShardResult] = []
    for _ in range(2):
        collect(replace(TINY, steps=800), tmp_path / "data", workers=1, on_cost=results.append)
        assert len(results) == 2
    assert min(result.cpu_s for result in results) > 0


def test_one_and_two_workers_give_equal_bytes(dataset: Dataset, tmp_path: Path) -> None:
    parallel = collect(TINY, tmp_path / "two", workers=2)
    assert read_files(parallel.path) == read_files(dataset.path)
    assert parallel.content_hash == dataset.content_hash


def test_another_seed_gives_another_dataset(dataset: Dataset, tmp_path: Path) -> None:
    different = collect(replace(TINY, seed=TINY.seed + 1, steps=400), tmp_path / "other", workers=1)
    assert read_files(different.path)["shard-00000.parquet"] != read_files(dataset.path)["shard-00000.parquet"]


def test_every_split_collects_in_its_layouts(tmp_path: Path, dataset: Dataset) -> None:
    scene = scenes[TINY.scene]
    small = replace(TINY, steps=100, shard_steps=100, layouts_per_shard=2, first_layout=5)
    for split in scene.splits:
        collected = collect(replace(small, split=split), tmp_path / split, workers=1)
        assert collected.layout_ids <= {scene.sample_layout(split, index).id for index in (5, 6)}
        assert split == "train" or not collected.layout_ids & dataset.layout_ids
        loads = {episode.pose.shape[1] - 1 for episode in collected.episodes()}
        assert loads == {len(scene.sample_layout(split, 5).loads)}


def test_stored_actions_lead_to_the_stored_states(dataset: Dataset) -> None:
    """The environment starts from the first state of each stored episode."""
    env = GroundEnv(dataset.scene, "train")
    checked = 0
    for episode in [episode for episode in dataset.episodes() if len(episode) > 20][:4]:
        start = np.column_stack([episode.pose[0, :, :2], 2 * np.arctan2(episode.pose[0, :, 5], episode.pose[0, :, 6])])
        env.reset(seed=0, options={"layout": episode.layout, "variation": episode.variation, "poses": start})
        for step in range(20):
            num_dynamic = episode.pose.shape[1]
            np.testing.assert_allclose(env.bodies.pose[:num_dynamic, :2], episode.pose[step, :, :2], atol=2e-3)
            env.step(episode.action[step])
            checked += 1
    env.close()
    assert checked == 80


def test_variations_are_stored_with_the_episodes(tmp_path: Path) -> None:
    config = replace(TINY, steps=400, variations=("load_mass_kg=3:12!5:7", "load_friction=0.3"))
    sampled = [episode.variation for episode in collect(config, tmp_path / "varied", workers=1).episodes()]
    assert {variation.load_friction for variation in sampled} == {0.3}
    assert len({variation.load_mass_kg for variation in sampled}) == len(sampled)
    assert not any(5 < variation.load_mass_kg < 7 for variation in sampled)
    assert replace(sampled[0], load_mass_kg=6.0, load_friction=0.5) == Variation()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"split": "val"},
        {"behaviours": (("random", 1.0),)},
        {"variations": ("load_mass_kg=3",)},
        {"shard_steps": 300},
    ],
)
def test_another_configuration_is_refused(dataset: Dataset, change: dict[str, Any]) -> None:
    before = read_files(dataset.path)
    with pytest.raises(GroundError, match=next(iter(change))):
        collect(replace(TINY, **change), dataset.path, workers=1)
    assert read_files(dataset.path) == before


def test_a_dataset_is_extended_by_more_steps(tmp_path: Path, dataset: Dataset) -> None:
    short = collect(replace(TINY, steps=400), tmp_path / "grown", workers=1)
    before = os.stat(short.path / "shard-00000.parquet").st_mtime_ns
    long = collect(TINY, tmp_path / "grown", workers=1)
    assert read_files(long.path) == read_files(dataset.path)
    assert os.stat(long.path / "shard-00000.parquet").st_mtime_ns == before


def test_units_in_the_manifest_are_not_part_of_the_configuration(tmp_path: Path) -> None:
    short = collect(replace(TINY, steps=400), tmp_path / "grown", workers=1)
    manifest = short.manifest
    save_manifest(short.path, manifest | {"units": manifest["units"] | {"cost": "m"}})
    assert collect(replace(TINY, steps=800), short.path, workers=1).steps == 800


def test_a_finished_collection_is_left_as_it_is(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "collect_shard", None)
    reported: list[tuple[int, int]] = []
    assert (
        collect(TINY, dataset.path, workers=1, progress=lambda *args: reported.append(args)).content_hash == dataset.content_hash
    )
    assert reported == [(1200, 1200)]


def test_an_interrupted_collection_resumes_and_replaces_damaged_shards(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(InterruptedError):
        collect(TINY, tmp_path / "interrupted", workers=1, progress=interrupt_at(1))
    shard = tmp_path / "interrupted" / "shard-00000.parquet"
    assert [file.name for file in shard.parent.glob("shard-*.parquet")] == [shard.name]
    shard.write_bytes(shard.read_bytes()[:1000])
    complete = collect(TINY, tmp_path / "interrupted", workers=1)
    assert read_files(complete.path) == read_files(dataset.path)
    second_shard = complete.path / "shard-00001.parquet"
    shard.write_bytes(second_shard.read_bytes())  # readable, but not the recorded content
    assert complete.find_faults() == ["shard-00000.parquet: damaged (its content is not what was written)"]
    assert read_files(collect(TINY, complete.path, workers=1).path) == read_files(dataset.path)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"behaviours": (("scriptd", 1.0),)}, UnknownName, "did you mean 'scripted'"),
        ({"variations": ("mass=3",)}, UnknownName, "variation 'mass'"),
        ({"split": "tran"}, UnknownName, "did you mean 'train'"),
        ({"scene": "logistics/tote"}, UnknownName, "did you mean 'logistics/tote-push'"),
    ],
)
def test_unknown_names_are_refused_without_files(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        collect(replace(TINY, **changes), tmp_path / "none", workers=1)
    assert not list(tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.rglob(MANIFEST))


@pytest.mark.parametrize("left", [1, 2])
def test_no_single_state_is_left_at_the_end_of_a_shard(left: int, tmp_path: Path) -> None:
    """The first episode ends by itself, and leaves some states."""
    long = collect(replace(TINY, steps=400), tmp_path / "long", workers=1)
    first = len(next(long.episodes()))
    steps = first + left
    assert steps > 100
    short = collect(replace(TINY, steps=steps, shard_steps=steps), tmp_path / "short", workers=1)
    lengths = [len(episode) for episode in short.episodes()]
    assert lengths == ([first - 1, 2] if left == 1 else [first, 2])


def test_any_number_of_steps_is_collected_and_can_be_raised(tmp_path: Path) -> None:
    config = replace(TINY, steps=300)
    for steps, shards in ((300, [300]), (850, [400, 450]), (1050, [400, 400, 250])):
        grown = collect(replace(config, steps=steps), tmp_path / "grown", workers=1)
        sizes = [shard["steps"] for shard in grown.manifest["shards"].values()]
        assert sizes == shards
    direct = collect(replace(config, steps=1050), tmp_path / "direct", workers=1)
    assert read_files(direct.path) == read_files(grown.path)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"steps": 99},
        {"shard_steps": 10},
        {"behaviours": (("random", 0.0),)},
        {"behaviours": (("random", 1.0), ("random", 2.0))},
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(GroundError):
        replace(TINY, **changes)


def test_a_killed_command_resumes_and_ends_with_the_same_digest(tmp_path: Path, ground: Callable[..., Any]) -> None:
    path = tmp_path / "data"
    first = path / "shard-00000.parquet"
    command = ground("collect", path, *WORDS, "--workers", 1)
    command.wait_for(first.exists)
    command.kill()
    before = first.read_bytes()
    assert len(read_shard(first)) > 10
    code, _, err = ground("collect", path, *WORDS, "--workers", 1).finish()
    assert code == 0, err
    assert first.read_bytes() == before
    uninterrupted = collect(SMALL, tmp_path / "uninterrupted", workers=2)
    assert Dataset.open(path).content_hash == uninterrupted.content_hash


def test_control_c_stops_with_130_in_one_line(tmp_path: Path, ground: Callable[..., Any]) -> None:
    path = tmp_path / "data"
    command = ground("collect", path, *WORDS, "--workers", 2, group=True)
    command.wait_for((path / MANIFEST).exists)
    os.killpg(command.process.pid, signal.SIGINT)
    code, _, err = command.finish()
    assert code == 130, err
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("stopped;")
