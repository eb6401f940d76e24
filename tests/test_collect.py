import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, contents

from sim.data import collect as module
from sim.data.collect import CollectConfig, collect
from sim.data.images import ImageConfig
from sim.data.store import MANIFEST, Dataset, read_shard
from sim.env import GroundEnv
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError, UnknownName
from sim.utils.files import read_json, write_json
from sim.variation import Variation

SMALL = CollectConfig(steps=4000, shard_steps=2000, behaviours=(("smooth-random", 1.0),))  # what the commands below collect
WORDS = ("--steps", 4000, "--behaviours", "smooth-random=1")


def test_pictures_are_kept_of_a_whole_dataset_or_of_none(tmp_path: Path) -> None:
    pictured = replace(TINY, steps=400, images=ImageConfig(("overhead",), (16, 16), 50))
    collect(pictured, tmp_path / "pictured", workers=1)
    with pytest.raises(GroundError, match=r"another configuration \(images\)"):
        collect(replace(pictured, steps=800, images=None), tmp_path / "pictured", workers=1)


def test_what_each_shard_costs_is_told_and_what_is_there_costs_nothing(tmp_path: Path) -> None:
    told: list[float] = []
    for _ in range(2):
        collect(replace(TINY, steps=800), tmp_path / "data", workers=1, on_cost=told.append)
        assert len(told) == 2
    assert min(told) > 0


def test_one_and_two_workers_give_equal_bytes(dataset: Dataset, tmp_path: Path) -> None:
    two = collect(TINY, tmp_path / "two", workers=2)
    assert contents(two.path) == contents(dataset.path)
    assert two.content_hash == dataset.content_hash


def test_the_seed_decides(dataset: Dataset, tmp_path: Path) -> None:
    other = collect(replace(TINY, seed=TINY.seed + 1, steps=400), tmp_path / "other", workers=1)
    assert contents(other.path)["shard-00000.parquet"] != contents(dataset.path)["shard-00000.parquet"]


def test_every_split_collects_with_its_own_spaces(tmp_path: Path, dataset: Dataset) -> None:
    scene = scenes[TINY.scene]
    small = replace(TINY, steps=100, shard_steps=100, layouts_per_shard=2, first_layout=5)
    for split in scene.splits:
        found = collect(replace(small, split=split), tmp_path / split, workers=1)
        assert found.layout_ids <= {scene.sample_layout(split, index).id for index in (5, 6)}
        assert split == "train" or not found.layout_ids & dataset.layout_ids
        loads = {episode.pose.shape[1] - 1 for episode in found.episodes()}
        assert loads == {len(scene.sample_layout(split, 5).loads)}


def test_episodes_are_what_the_environment_does(dataset: Dataset) -> None:
    """Actions of a stored episode, given to an environment at its start, lead to the stored states."""
    env = GroundEnv(dataset.scene, "train")
    checked = 0
    for episode in [episode for episode in dataset.episodes() if len(episode) > 20][:4]:
        start = np.column_stack([episode.pose[0, :, :2], 2 * np.arctan2(episode.pose[0, :, 5], episode.pose[0, :, 6])])
        env.reset(seed=0, options={"layout": episode.layout, "variation": episode.variation, "poses": start})
        for step in range(20):
            movers = episode.pose.shape[1]
            np.testing.assert_allclose(env.bodies.pose[:movers, :2], episode.pose[step, :, :2], atol=2e-3)
            env.step(episode.action[step])
            checked += 1
    env.close()
    assert checked == 80


def test_variations_are_kept_with_the_episodes(tmp_path: Path) -> None:
    config = replace(TINY, steps=400, variations=("load_mass_kg=3:12!5:7", "load_friction=0.3"))
    found = [episode.variation for episode in collect(config, tmp_path / "varied", workers=1).episodes()]
    assert {variation.load_friction for variation in found} == {0.3}
    assert len({variation.load_mass_kg for variation in found}) == len(found)
    assert not any(5 < variation.load_mass_kg < 7 for variation in found)
    assert replace(found[0], load_mass_kg=6.0, load_friction=0.5) == Variation()


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"split": "val"},
        {"behaviours": (("random", 1.0),)},
        {"variations": ("load_mass_kg=3",)},
        {"shard_steps": 300},
    ],
)
def test_another_configuration_is_refused(dataset: Dataset, other: dict[str, Any]) -> None:
    before = contents(dataset.path)
    with pytest.raises(GroundError, match=next(iter(other))):
        collect(replace(TINY, **other), dataset.path, workers=1)
    assert contents(dataset.path) == before


def test_more_steps_of_the_same_go_on(tmp_path: Path, dataset: Dataset) -> None:
    short = collect(replace(TINY, steps=400), tmp_path / "grown", workers=1)
    kept = os.stat(short.path / "shard-00000.parquet").st_mtime_ns
    long = collect(TINY, tmp_path / "grown", workers=1)
    assert contents(long.path) == contents(dataset.path)
    assert os.stat(long.path / "shard-00000.parquet").st_mtime_ns == kept


def test_what_a_manifest_calls_its_units_is_no_configuration(tmp_path: Path) -> None:
    short = collect(replace(TINY, steps=400), tmp_path / "grown", workers=1)
    manifest = read_json(short.path / MANIFEST)
    write_json(short.path / MANIFEST, manifest | {"units": manifest["units"] | {"cost": "m"}})
    assert collect(replace(TINY, steps=800), short.path, workers=1).steps == 800


def test_a_finished_collection_is_left_as_it_is(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "collect_shard", None)
    seen: list[tuple[int, int]] = []
    assert collect(TINY, dataset.path, workers=1, progress=lambda *args: seen.append(args)).content_hash == dataset.content_hash
    assert seen == [(1200, 1200)]


def test_an_interrupted_collection_goes_on_and_damaged_shards_are_made_again(tmp_path: Path, dataset: Dataset) -> None:
    def interrupt(done: int, total: int) -> None:
        if done:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        collect(TINY, tmp_path / "broken", workers=1, progress=interrupt)
    shard = tmp_path / "broken" / "shard-00000.parquet"
    assert [file.name for file in shard.parent.glob("*.parquet")] == [shard.name]
    shard.write_bytes(shard.read_bytes()[:1000])
    whole = collect(TINY, tmp_path / "broken", workers=1)
    assert contents(whole.path) == contents(dataset.path)
    other = whole.path / "shard-00001.parquet"
    shard.write_bytes(other.read_bytes())  # it can be read, and is not what was noted
    assert whole.find_faults() == ["shard-00000.parquet: damaged (its content is not what was written)"]
    assert contents(collect(TINY, whole.path, workers=1).path) == contents(dataset.path)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"behaviours": (("scriptd", 1.0),)}, UnknownName, "did you mean 'scripted'"),
        ({"variations": ("mass=3",)}, UnknownName, "variation 'mass'"),
        ({"split": "tran"}, UnknownName, "did you mean 'train'"),
        ({"scene": "logistics/tote"}, UnknownName, "did you mean 'logistics/tote-push'"),
    ],
)
def test_what_is_unknown_is_refused_and_leaves_nothing(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        collect(replace(TINY, **changes), tmp_path / "none", workers=1)
    assert not list(tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.rglob("manifest.json"))


def test_any_number_of_steps_is_collected_and_can_be_raised(tmp_path: Path) -> None:
    config = replace(TINY, steps=300)
    for steps, shards in ((300, [300]), (850, [400, 450]), (1050, [400, 400, 250])):
        grown = collect(replace(config, steps=steps), tmp_path / "grown", workers=1)
        sizes = [shard["steps"] for shard in grown.manifest["shards"].values()]
        assert sizes == pytest.approx(shards, abs=1)
    direct = collect(replace(config, steps=1050), tmp_path / "direct", workers=1)
    assert contents(direct.path) == contents(grown.path)


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


def test_a_killed_command_keeps_its_shards_and_ends_with_the_same_digest(tmp_path: Path, ground: Callable[..., Any]) -> None:
    path = tmp_path / "data"
    first = path / "shard-00000.parquet"
    command = ground("collect", path, *WORDS, "--workers", 1)
    command.wait_for(first.exists)
    command.kill()
    kept = first.read_bytes()
    assert len(read_shard(first)) > 10
    code, _, err = ground("collect", path, *WORDS, "--workers", 1).finish()
    assert code == 0, err
    assert first.read_bytes() == kept
    unbroken = collect(SMALL, tmp_path / "unbroken", workers=2)
    assert Dataset.open(path).content_hash == unbroken.content_hash


def test_control_c_stops_with_130_in_one_line(tmp_path: Path, ground: Callable[..., Any]) -> None:
    path = tmp_path / "data"
    command = ground("collect", path, *WORDS, "--workers", 2, group=True)
    command.wait_for((path / "manifest.json").exists)
    os.killpg(command.process.pid, signal.SIGINT)
    code, _, err = command.finish()
    assert code == 130, err
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("stopped;")
