import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config.experiment import (
    BaselineTrainingConfig,
    ExperimentConfig,
    list_presets,
    load_experiment,
    parse_config,
    read_config,
)
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError, UnknownName
from worldmodels.model import models

SMALL = 'name = "small"\n'


def write_config(path: Path, text: str) -> str:
    file = path / "custom.toml"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize("name", list_presets())
def test_presets_are_valid_and_equal_after_json(name: str) -> None:
    config = load_experiment(name)
    assert config.name == name
    assert parse_config(json.loads(json.dumps(asdict(config))), "copy") == config
    assert config.scene in list(scenes)
    assert all(item.name in list(models) for item in config.models)


def test_a_file_can_extend_a_preset(tmp_path: Path) -> None:
    base = load_experiment("tote-push")
    config = load_experiment(write_config(tmp_path, 'base = "tote-push"\nseed = 5\n'))
    assert (config.name, config.seed, config.rounds) == ("custom", 5, base.rounds)
    assert load_experiment(write_config(tmp_path, SMALL)).name == "small"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sed = 1", "sed"),
        ("[planner]\nsample = 3", "sample"),
        ("[[models]]\nname = 'graph'\nepochs = 3", "epochs"),
        ("[[models]]\nname = 'grap'", "did you mean 'graph'"),
        ("search = 'mpi'", "did you mean 'mppi'"),
        ("scene = 'logistics/tote-pus'", "did you mean 'logistics/tote-push'"),
        ("baselines = ['sacc']", "did you mean 'sac'"),
        ("[episodes]\ntets = 3", "did you mean 'test'"),
        ("[episodes]\ntrain = 3", "none in split train"),
        ("[episodes]\ntest = 0", "at least one episode"),
        ("rounds = []", "at least one round"),
        ("[planner]\nsamples = 0", "search samples 0"),
        ("seed = 'one'", "seed"),
        ("seed = 1.5", r"expected int @ \$\.seed"),
        ("seed = true", "expected int"),
        ("seed = '1'", "expected int"),
        (f"baseline_steps = 1{'0' * 400}", r"expected int @ \$\.baseline_steps"),
        ("compile_models = 'no'", r"expected bool @ \$\.compile_models"),
        ("[[models]]\nname = 'graph'\ntrain = {weight_decay = nan}", "expected float"),
        ("seed = [", "not TOML"),
        ("seed = " + "[" * 10_000, "not TOML"),
        ("base = 3", "experiment '3'"),
        ("budget_s = nan", "budget_s"),
        ("batch_episodes = 0", "batch_episodes"),
        ("seed = -1", "seed = -1"),
        ("held_out_steps = 100", "held_out_steps"),
        ("variations = ['load_mas=3']", "did you mean 'load_mass_kg'"),
        ("[[models]]\nname = 'graph'\n[[models]]\nname = 'graph'", "occurs twice"),
        ("[[rounds]]\nsteps = 2000\nbehaviours = {scriptd = 1}", "did you mean 'scripted'"),
        ("[[rounds]]\nsteps = 2000\nbehaviours = {scripted = 0}", "positive weight"),
        ("held_out = { nobody = 1.0 }", "nobody"),
        ("held_out = { scripted = 0.0 }", "positive weight"),
        ("[[rounds]]\nsteps = 2000\nbehaviours = {planner = 1}", "a previous round"),
        ("searches = ['cme']", "did you mean 'cem'"),
        ("searches = ['cem', 'cem']", "searches: a name or number occurs twice"),
        ("[[models]]\nname = 'graph'\nsearches = ['cme']", "did you mean 'cem'"),
        ("baselines = [{name = 'ppp'}]", "did you mean 'ppo'"),
        ("baselines = [{name = 'ppo', steps = 0}]", "positive steps"),
        ("baselines = ['ppo', 'ppo']", "baselines: a name or number occurs twice"),
        ("data_steps = [2000]\nbaselines = ['ppo', {name = 'ppo', steps = 2000}]", "data_steps makes ppo-2k already"),
        ("baselines = ['dyna']\nmodels = []", "dyna learns in a model"),
        ("scene = 'logistics/aisle-traffic'\nbaselines = ['dyna']", "dyna cannot predict the traffic"),
        ("prediction_baselines = ['static']", "has no traffic"),
        ("prediction_baselines = ['statik']", "did you mean 'static'"),
        ("scene = 'logistics/aisle-traffic'\nprediction_baselines = ['static']\nmodels = []\nbaselines = []", "models is empty"),
        ("oracle_episodes = -1", "oracle_episodes = -1"),
        ("oracle_large_episodes = -2", "oracle_large_episodes = -2"),
        ("[episodes]", "at least one split"),
        ("[[models]]\nname = 'graph'\nepisodes = 0", "give at least 1"),
        ("train_seeds = []", "at least one"),
        ("train_seeds = [-1]", "none may be negative"),
        ("data_steps = [12000, 30000]", "2000 to 20000"),
        ("base = 'tote-pus'", "did you mean 'tote-push'"),
        ("[[rounds]]\nsteps = 'many'\nbehaviours = {random = 1}", "steps"),
        ("[[models]]\nname = 'graph'\ntrain = {updates = 0}", "positive updates"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(GroundError, match=match) as caught:
        load_experiment(write_config(tmp_path, text))
    assert "\n" not in str(caught.value)


@given(
    st.dictionaries(
        st.sampled_from([field.name for field in fields(ExperimentConfig)] + ["other"]),
        st.recursive(
            st.none() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5) | st.booleans(),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "steps", "test"]), inner, max_size=2)
            ),
            max_leaves=4,
        ),
        max_size=3,
    )
)
def test_any_content_is_a_config_or_a_mistake_in_one_line(content: dict[str, Any]) -> None:
    try:
        config = parse_config({"name": "x", **content}, "made up")
    except GroundError as error:
        message = str(error)
    else:
        message = ""
        assert parse_config(json.loads(json.dumps(asdict(config))), "copy") == config
    assert len(message.splitlines()) <= 1


def test_a_baseline_is_given_by_its_name_or_with_its_steps(tmp_path: Path) -> None:
    config = load_experiment(write_config(tmp_path, "baselines = ['sac', { name = 'ppo', steps = 1_000_000 }]\n"))
    assert config.baselines == (BaselineTrainingConfig("sac"), BaselineTrainingConfig("ppo", 1_000_000))
    assert [item.method_name for item in config.baselines] == ["sac", "ppo-1000k"]
    assert (
        load_experiment(write_config(tmp_path, "[[baselines]]\nname = 'ppo'\nsteps = 12500\n")).baselines[0].method_name
        == "ppo-12.5k"
    )


def test_a_short_scene_name_is_enough(tmp_path: Path) -> None:
    assert load_experiment(write_config(tmp_path, "scene = 'tote-push'")).scene == "logistics/tote-push"


def test_configs_of_the_earlier_format_are_read(tmp_path: Path) -> None:
    old = {"name": "old", "together": 2, "oracle": 3, "assumptions": ["still"], "protocol": "usual"}
    (tmp_path / "config.json").write_text(json.dumps({**old, "scene": "logistics/aisle-traffic"}))
    config = read_config(tmp_path)
    assert (config.batch_episodes, config.oracle_episodes, config.prediction_baselines) == (2, 3, ("static",))
    assert config.protocol == "default"


def test_missing_and_unreadable_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(GroundError, match="cannot be read"):
        load_experiment(str(tmp_path / "missing.toml"))
    with pytest.raises(UnknownName, match="did you mean 'tote-push'"):
        load_experiment("tote-psh")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GroundError, match="not TOML"):
        load_experiment(str(tmp_path / "binary.toml"))


def test_a_cyclic_base_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "custom.toml"
    file.write_text(f'base = "{file}"\n')
    with pytest.raises(GroundError, match="base"):
        load_experiment(str(file))
    (tmp_path / "first.toml").write_text(f'base = "{tmp_path}/second.toml"')
    (tmp_path / "second.toml").write_text(f'base = "{tmp_path}/first.toml"')
    with pytest.raises(GroundError, match="is based on this file"):
        load_experiment(str(tmp_path / "first.toml"))
