"""The pipeline at the smallest size with all its steps."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from agents.planning.search import SearchConfig
from experiments import pipeline, versions
from experiments.cache import Cache
from experiments.cli.evaluation import evaluate as evaluate_command
from experiments.cli.evaluation import verify
from experiments.cli.results import export as export_command
from experiments.compute_costs import COSTS_DIR, read_costs
from experiments.config.experiment import BaselineTrainingConfig, CollectionRound, ExperimentConfig, ModelTrainingConfig
from experiments.evaluation import evaluate as evaluate_module
from experiments.evaluation.results import EpisodeResult, read_episode_results
from experiments.methods import training as trainings
from experiments.methods.build import MethodSet
from experiments.pipeline import Pipeline, run_experiment
from experiments.report.build import build_report, export_run, write_comparison
from experiments.report.export import OLD_RESULTS_FILE, RESULTS_FILE, export_models, export_results
from experiments.report.loading import read_all_results, read_runs
from experiments.report.measures.summary import format_summary_markdown
from sim.data import collect as collecting
from sim.data.store import Dataset
from sim.layout import Layout
from sim.scenes.scene import scenes
from sim.utils.errors import BadFile, GroundError, UnknownName
from worldmodels.baselines import ConstantVelocity
from worldmodels.training import loop as training
from worldmodels.training.loop import TrainConfig

SCENE = "logistics/tote-push"  # the cheapest
TOUCHING = "scripted-noisy"  # a behaviour that every scene has
STEPS = 600
TINY = ExperimentConfig(
    name="tiny",
    rounds=(CollectionRound(STEPS, {TOUCHING: 1.0}, updates=4), CollectionRound(STEPS, {"planner": 0.5, TOUCHING: 0.5})),
    held_out_steps=STEPS,
    models=(ModelTrainingConfig("graph", TrainConfig(updates=4, batch=16, lengths=(2,), validate_every=2, threads=1)),),
    planner=SearchConfig(samples=4, iterations=1, horizon=3),
    collection_planner=SearchConfig(samples=4, iterations=1, horizon=3),
    baselines=(),
    episodes={"test": 1},
)
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def config() -> ExperimentConfig:
    return replace(TINY, scene=SCENE, episodes={"test": 1, scenes[SCENE].splits[-1]: 1})


@pytest.fixture(scope="module")
def finished_run(config: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run that was interrupted before its evaluation and then resumed."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "VALIDATION_WINDOWS", 64)  # traffic needs sixteen particles for each
        with pytest.MonkeyPatch.context() as stop:
            stop.setattr(Pipeline, "evaluate", lambda self: (_ for _ in ()).throw(InterruptedError))
            with pytest.raises(InterruptedError):
                run_experiment(config, path, 1, QUIET)
        before = read_modification_times(path / "data") | read_modification_times(path / "models")
        assert len(before) > 10
        run_experiment(config, path, 1, QUIET)
    torch.set_num_threads(1)
    assert {file: modified for file, modified in read_modification_times(path).items() if file in before} == before
    return path


def read_modification_times(path: Path) -> dict[Path, int]:
    """Read the modification times; without locks, manifests and compute costs, which a finished step rewrites."""
    files = (file for file in path.rglob("*") if file.is_file() and file.name not in (".lock", "_manifest.parquet"))
    files = (file for file in files if file.parent.name != COSTS_DIR)
    return {file: file.stat().st_mtime_ns for file in files}


def test_a_run_has_data_models_results_and_a_report(config: ExperimentConfig, finished_run: Path) -> None:
    results = read_all_results(finished_run)
    methods = {"random", "scripted", "graph+mppi"}
    expected = {(method, split, index) for method in methods for split, n in config.episodes.items() for index in range(n)}
    assert {(result.method, result.split, result.index) for result in results} == expected
    assert len(results) == len(expected)
    pairs = {method: [(result.layout_id, result.seed) for result in results if result.method == method] for method in methods}
    assert pairs["random"] == pairs["scripted"] == pairs["graph+mppi"]
    planned = [result for result in results if result.method == "graph+mppi"]
    assert {result.env_steps for result in planned} == {2 * STEPS}
    assert min(result.train_cpu_s for result in planned) > 0
    page = (finished_run / "report" / "index.html").read_text()
    assert "tiny" in page
    assert list((finished_run / "report" / "recordings").glob("*.html"))
    assert {line["model"] for line in json.loads((finished_run / "open_loop_errors.json").read_text())} == {
        "graph",
        ConstantVelocity.name,
    }
    assert "torch" in json.loads((finished_run / "versions.json").read_text())


@pytest.mark.parametrize("scene", [name for name in scenes if name != SCENE and not scenes[name].is_skill])
def test_every_scene_has_data_a_model_results_and_a_report(scene: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "VALIDATION_WINDOWS", 8)
    monkeypatch.setattr(Pipeline, "measure_open_loop_errors", lambda self: None)
    steps = 500
    config = replace(
        TINY,
        scene=scene,
        rounds=(CollectionRound(steps, {TOUCHING: 1.0}, updates=4), CollectionRound(steps, {"planner": 0.2, TOUCHING: 0.8})),
        held_out_steps=steps,
        models=(replace(TINY.models[0], name="spatial-graph" if scenes[scene].make_world else "graph"),),
        planner=SearchConfig(samples=2, iterations=1, horizon=2),
        collection_planner=SearchConfig(samples=2, iterations=1, horizon=2),
    )
    page = run_experiment(config, tmp_path, 1, QUIET)
    methods = {result.method for result in read_all_results(tmp_path)}
    assert {"random", "scripted"} < methods
    assert len(methods) == 3
    assert "tiny" in page.read_text()


def test_an_export_gives_the_same_results_and_report(finished_run: Path, tmp_path: Path) -> None:
    export = tmp_path / "export"
    file = export_run(finished_run, export)
    assert file.stat().st_size < 100_000
    assert sum(part.stat().st_size for part in export.rglob("*") if part.is_file()) < 120_000
    results, exported = read_all_results(finished_run), read_all_results(export)
    assert [replace(result, training_distance=None) for result in exported] == results
    assert all(result.training_distance is not None and result.training_distance >= 0 for result in exported)
    assert format_summary_markdown(read_runs([export]).results) == format_summary_markdown(results)
    pages = [build_report(path, out=tmp_path / "report" / path.name).read_text() for path in (finished_run, export)]
    assert [page.count("<td>") for page in pages] == [pages[0].count("<td>")] * 2
    assert "is an export: its episodes cannot be shown" in pages[1]
    assert not list((tmp_path / "report" / "export").rglob("recordings/*"))
    assert export_run(export, tmp_path / "repeated").read_bytes() == file.read_bytes()
    with pytest.raises(GroundError, match="no evaluated episodes of split 'nowhere'"):
        read_runs([export], "nowhere")
    with pytest.raises(GroundError, match="is an export, without episodes"):
        verify(export)


def test_an_exported_model_can_be_added_to_another_run(config: ExperimentConfig, finished_run: Path, tmp_path: Path) -> None:
    export_models(finished_run, ["graph"], tmp_path)
    export = tmp_path / "models" / "graph"
    assert sorted(file.name for file in export.iterdir()) == ["best.json", "best.safetensors"]
    external = export.rename(tmp_path / "external")
    (tmp_path / "run").mkdir()
    methods = MethodSet(replace(config, models=()), tmp_path / "run")
    methods.add_external_models([external])
    (method,) = (method for method in methods.make_all() if method.model)
    original = next(method for method in MethodSet(config, finished_run).make_all() if method.label == "graph+mppi")
    assert (method.cache_content, method.seen_layouts, method.env_steps) == (
        original.cache_content,
        original.seen_layouts,
        original.env_steps,
    )
    with pytest.raises(UnknownName, match="trained model 'grap': did you mean 'graph'"):
        export_models(finished_run, ["grap"], tmp_path)
    with pytest.raises(BadFile, match="run holds no trained models"):
        export_models(tmp_path / "run", ["graph"], tmp_path)


def test_episodes_of_several_protocols_are_exported_and_selected(finished_run: Path, tmp_path: Path) -> None:
    export = tmp_path / "export"
    export_run(finished_run, export)
    results = read_all_results(export)
    export_results(finished_run, [*results, *(replace(result, protocol="other") for result in results)], export)
    export_run(export, tmp_path / "repeated")
    assert len(read_all_results(tmp_path / "repeated")) == 2 * len(results)
    with pytest.raises(GroundError, match="different protocols"):
        read_runs([tmp_path / "repeated"])
    selected = read_runs([tmp_path / "repeated"], protocol="other")
    assert len(selected.results) == len(results)
    page = write_comparison(selected, tmp_path / "report").read_text()
    assert f"ground compare {tmp_path / 'repeated'} --protocol other --out {tmp_path / 'report'}" in page


def test_later_layouts_are_evaluated_and_reported_separately(
    config: ExperimentConfig, finished_run: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(finished_run, tmp_path / "run"))
    before = read_all_results(path)
    later = replace(config, episodes={"test": 2})
    Pipeline(later, path, 1, QUIET, method_names=("random",), is_evaluation_only=True, first_index=7).evaluate()
    assert len(read_all_results(path)) == len(before) + 4, "the scripted method is evaluated too"
    loaded = read_runs([path], "test", first_index=7)
    assert {result.index for result in loaded.results} == {7, 8}
    page = write_comparison(loaded, tmp_path / "report").read_text()
    assert f"ground compare {path} --split test --first 7 --out" in page
    with pytest.raises(GroundError, match="of split 'test' from number 9 on yet"):
        read_runs([path], "test", first_index=9)


def test_a_damaged_export_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for name in (OLD_RESULTS_FILE, RESULTS_FILE):
        (tmp_path / name).write_bytes(b"PAR1 cut off")
        with pytest.raises(BadFile, match=f"{name} is damaged .* export it again"):
            read_all_results(tmp_path)
    pq.write_table(pa.table({"success": [True]}), tmp_path / RESULTS_FILE)
    with pytest.raises(BadFile, match="has results of version 0"):
        read_all_results(tmp_path)


def test_rounds_and_evaluation_share_no_layouts(config: ExperimentConfig, finished_run: Path) -> None:
    ids = {name: Dataset.open(finished_run / "data" / name).layout_ids for name in ("round-1", "round-2", "val", "test")}
    assert not ids["round-1"] & ids["round-2"]
    evaluated = {result.layout_id for result in read_all_results(finished_run)}
    assert not evaluated & (ids["round-1"] | ids["round-2"] | ids["val"])
    second = Dataset.open(finished_run / "data" / "round-2")
    assert second.manifest["tags"] == {"planner": "graph-round-1"}
    assert any(episode.behaviour == "planner" for episode in second.episodes())


def test_a_finished_run_only_rewrites_its_report(
    config: ExperimentConfig, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = finished_run / "report" / "index.html"
    monkeypatch.setattr(pipeline, "build_report", lambda path, *_: page)
    before = read_modification_times(finished_run)
    assert run_experiment(config, finished_run, 1, QUIET) == page
    assert read_modification_times(finished_run) == before


def test_a_run_without_a_newer_option_is_resumed(config: ExperimentConfig, tmp_path: Path) -> None:
    versions.start_or_resume(config, tmp_path, QUIET)
    content = json.loads((tmp_path / "config.json").read_text())
    del content["protocol"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    versions.start_or_resume(config, tmp_path, QUIET)


def test_each_resumption_by_other_code_is_reported(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.StringIO()
    console = Console(file=output)
    initial = versions.read_versions()
    for code in ("first", "first", "second", "second", "third"):
        monkeypatch.setattr(versions, "read_versions", lambda code=code: {**initial, "code": code})
        versions.start_or_resume(config, tmp_path, console)
    assert output.getvalue().count("code first before, second now") == 1
    assert output.getvalue().count("before") == 2
    content = json.loads((tmp_path / "versions.json").read_text())
    assert content == {**initial, "code": "first", versions.RESUMPTIONS_KEY: [{"code": "second"}, {"code": "third"}]}


def test_steps_of_other_code_are_not_added_to_the_cache(config: ExperimentConfig, finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    versions = json.loads((tmp_path / "run" / "versions.json").read_text())
    (tmp_path / "run" / "versions.json").write_text(json.dumps({**versions, "code": "other"}))
    run_experiment(config, tmp_path / "run", 1, QUIET, Cache(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("entry.json"))


def test_another_configuration_is_refused(config: ExperimentConfig, finished_run: Path) -> None:
    with pytest.raises(GroundError, match="started with another seed"):
        run_experiment(replace(config, seed=1), finished_run, 1, QUIET)


def test_a_custom_layout_is_evaluated_with_every_method(config: ExperimentConfig, finished_run: Path) -> None:
    layout = scenes[config.scene].sample_layout("val", 777)
    results = Pipeline(config, finished_run, 1, QUIET).evaluate_layouts([replace(layout, name="mine")])
    assert [result.method for result in results] == ["random", "scripted", "graph+mppi"]
    assert {result.layout_id for result in results} == {layout.id}
    assert all(result in read_episode_results(finished_run / "results") for result in results)


def test_oracles_run_their_own_number_of_episodes_in_a_custom_layout(
    config: ExperimentConfig, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = scenes[config.scene].sample_layout("val", 777)
    monkeypatch.setattr(pipeline, "evaluate", lambda method, specs, *_: [(method.label, len(specs))])
    selected = [("random", 3), ("scripted", 3), ("graph+mppi", 3)]
    for option, label in (("oracle_episodes", "oracle"), ("oracle_large_episodes", "oracle-large")):
        evaluated = Pipeline(replace(config, **{option: 1}), finished_run, 1, QUIET).evaluate_layouts([layout], 3)
        assert evaluated == [*selected, (label, 1)]


def test_a_custom_layout_that_a_model_has_seen_is_refused(config: ExperimentConfig, finished_run: Path) -> None:
    training_layout: Layout = next(Dataset.open(finished_run / "data" / "round-1").episodes()).layout
    with pytest.raises(GroundError, match=f"trained on layout {training_layout.id}"):
        Pipeline(config, finished_run, 1, QUIET).evaluate_layouts([replace(training_layout, name="renamed")])


def test_an_external_model_that_was_trained_again_is_refused(
    config: ExperimentConfig, finished_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    external = Path(shutil.copytree(finished_run / "models" / "graph", tmp_path / "external"))
    MethodSet(config, tmp_path / "run").add_external_models([external])
    assert "external+mppi" in {method.name for method in MethodSet(config, tmp_path / "run").make_all()}
    weights = load_file(external / "best.safetensors")
    save_file({name: values + 1 for name, values in weights.items()}, external / "best.safetensors")
    with pytest.raises(GroundError, match="another model called external"):
        MethodSet(config, tmp_path / "run").add_external_models([external])
    methods = MethodSet(config, tmp_path / "run")
    assert "external+mppi" not in {method.name for method in methods.make_all()}, (
        "methods must be available without the external model"
    )
    assert "changed after it was added" in methods.find_missing_external_methods()["external+mppi"]
    assert "changed after it was added" in methods.make_available()[1]["external+mppi"]
    with pytest.raises(GroundError, match=r"external.mppi cannot be evaluated: .* changed after it was added"):
        MethodSet(config, tmp_path / "run", ("external+mppi",)).make_all()


def test_an_external_model_can_be_moved(config: ExperimentConfig, finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    external = Path(shutil.copytree(finished_run / "models" / "graph", tmp_path / "here" / "external"))
    methods = MethodSet(config, tmp_path / "run")
    methods.add_external_models([external])
    (tmp_path / "there").mkdir()
    moved = external.rename(tmp_path / "there" / "external")
    assert "no longer holds the trained model" in methods.find_missing_external_methods()["external+mppi"]
    Pipeline(config, tmp_path / "run", 1, QUIET).measure_open_loop_errors()
    methods.add_external_models([moved])
    assert "external+mppi" in {method.name for method in methods.make_all()}
    (moved / "best.json").write_text('{"layouts": [')
    assert "damaged" in methods.find_missing_external_methods()["external+mppi"]
    assert "damaged" in methods.make_available()[1]["external+mppi"]


def test_a_method_with_a_time_budget_is_not_cached(config: ExperimentConfig, finished_run: Path) -> None:
    unlimited, limited = (
        {method.name: method.cache_content for method in MethodSet(replace(config, budget_s=budget), finished_run).make_all()}
        for budget in (None, 0.05)
    )
    assert unlimited["graph+mppi"] is not None
    assert limited["graph+mppi"] is None
    assert limited["scripted"] == unlimited["scripted"] is not None


def test_progress_covers_the_steps_that_run(config: ExperimentConfig, finished_run: Path) -> None:
    output = io.StringIO()
    Pipeline(config, finished_run, 1, Console(file=output), is_evaluation_only=True).evaluate()
    count = 3 * len(config.episodes)
    assert f"{count} of {count} steps" in output.getvalue()
    slow = replace(config.models[0], episodes=1)
    expected = [
        Pipeline(replace(config, models=(model,)), finished_run, 1, QUIET)._estimate_evaluation_s({"test": 30})[
            "test: graph+mppi"
        ]
        for model in (slow, config.models[0])
    ]
    assert 30 * expected[0] == expected[1]


def test_finished_steps_cost_nothing(config: ExperimentConfig, finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    before = read_costs(tmp_path / "run")
    steps = Pipeline(config, tmp_path / "run", 1, QUIET)
    steps.collect()
    steps.train()
    assert read_costs(tmp_path / "run") == before
    assert min(before.values()) > 0


def test_an_evaluation_by_other_code_is_recorded(config: ExperimentConfig, finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    file = tmp_path / "run" / "versions.json"
    initial = json.loads(file.read_text())
    file.write_text(json.dumps({**initial, "git": "another"}))
    evaluate_command(tmp_path / "run", episodes=1, workers=1)
    assert versions.RESUMPTIONS_KEY not in json.loads(file.read_text()), "a commit without code changes is no resumption"
    file.write_text(json.dumps({**initial, "code": "other"}))
    with pytest.raises(UnknownName):
        evaluate_command(tmp_path / "run", split="tset", workers=1)
    with pytest.raises(UnknownName):
        evaluate_command(tmp_path / "run", episodes=1, methods=("nobody",), workers=1)
    assert versions.RESUMPTIONS_KEY not in json.loads(file.read_text()), "an evaluation without results is no resumption"
    evaluate_command(tmp_path / "run", episodes=1, workers=1)
    assert json.loads(file.read_text())[versions.RESUMPTIONS_KEY] == [{"code": initial["code"]}]


def test_an_export_into_a_run_is_refused(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    with pytest.raises(GroundError, match="is a run itself"):
        export_command(finished_run, tmp_path / "run")
    assert read_modification_times(tmp_path / "run").keys() == {
        tmp_path / "run" / file.relative_to(finished_run) for file in read_modification_times(finished_run)
    }


def test_a_run_with_impossible_settings_writes_no_file(tmp_path: Path) -> None:
    rounds = (CollectionRound(STEPS, updates=-1), CollectionRound(STEPS))
    for changes in ({"baselines": (BaselineTrainingConfig("ppo"),), "baseline_steps": 0}, {"rounds": rounds}):
        with pytest.raises(GroundError, match="positive"):
            run_experiment(replace(TINY, **changes), tmp_path, 1, QUIET)
    assert [file.name for file in tmp_path.rglob("*")] == [".lock"]


def test_the_methods_cover_the_training_grid() -> None:
    graph, mlp = ModelTrainingConfig("graph"), ModelTrainingConfig("mlp", searches=("mppi",))
    config = replace(
        TINY,
        rounds=(CollectionRound(4000),),
        models=(graph, mlp),
        searches=("mppi", "cem"),
        train_seeds=(0, 3),
        data_steps=(2000, 4000),  # the second is all data
        baselines=(BaselineTrainingConfig("sac"), BaselineTrainingConfig("ppo", 1_000_000), BaselineTrainingConfig("dyna")),
        baseline_steps=3000,
    )
    trained = ["graph+mppi", "graph+cem", "mlp+mppi", "graph+mppi-2k", "mlp+mppi-2k", "sac", "sac-2k", "ppo-1000k", "dyna"]
    names = MethodSet(config, Path("nowhere")).select_recipes()
    assert set(names) == {"random", "scripted", *trained, *(f"{name}@3" for name in trained)}
    smaller = replace(config, searches=("cem",), models=(graph,), baselines=())
    assert set(MethodSet(smaller, Path("nowhere")).select_recipes()) - {"random", "scripted"} == {
        f"{name}{seed}" for name in ("graph+cem", "graph+mppi-2k") for seed in ("", "@3")
    }
    subset = MethodSet(config, Path("nowhere"), ("graph+mppi-2k", "sac")).select_recipes()
    assert set(subset) == {"random", "scripted", *(f"{name}{seed}" for name in ("graph+mppi-2k", "sac") for seed in ("", "@3"))}
    with pytest.raises(GroundError, match=r"unknown method 'graph.mpi': did you mean 'graph.mppi'"):
        MethodSet(config, Path("nowhere"), ("graph+mpi",)).select_recipes()


def read_untimed(run_path: Path) -> list[EpisodeResult]:
    """Read results without times and without the run's name."""
    timed = {"decision_ms_p50": 0.0, "decision_ms_p95": 0.0, "decision_time_s": 0.0, "train_cpu_s": 0.0, "collect_cpu_s": 0.0}
    results = [replace(result, run="", **timed) for result in read_all_results(run_path)]
    return sorted(results, key=lambda result: (result.method, result.train_seed or 0))


def test_results_do_not_depend_on_workers_or_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(TINY, rounds=(CollectionRound(1000, {TOUCHING: 1.0}),), train_seeds=(0, 1), episodes={"test": 1})
    monkeypatch.setattr(pipeline, "build_report", lambda *args: args[0])
    cache = Cache(tmp_path / "cache")
    run_experiment(config, tmp_path / "two", 2, QUIET, cache)
    run_experiment(config, tmp_path / "one", 1, QUIET)
    results = read_untimed(tmp_path / "two")
    assert results == read_untimed(tmp_path / "one")
    assert [(result.method, result.train_seed) for result in results] == [
        ("graph+mppi", 0), ("graph+mppi", 1), ("random", None), ("scripted", None)
    ]  # fmt: skip
    assert results[0].total_cost != results[1].total_cost
    planned = results[0]
    assert (planned.search_samples, planned.search_iterations, planned.search_horizon) == (4, 1, 3)
    assert planned.data_bytes > 5_000

    def fail(*args: Any) -> None:
        raise AssertionError("a cached step runs again")

    for module, name in ((collecting, "collect_shard"), (evaluate_module, "run_and_write_batch"), (trainings, "train_model")):
        monkeypatch.setattr(module, name, fail)
    monkeypatch.setattr(trainings, "run_jobs", lambda function, jobs, *_: [(index, 0.0) for index, *_ in jobs])
    run_experiment(replace(config, name="repeated"), tmp_path / "repeated", 1, QUIET, cache)
    assert read_untimed(tmp_path / "repeated") == results
    assert {result.run for result in read_all_results(tmp_path / "repeated")} == {"repeated"}
    train_cpu_s = [max(result.train_cpu_s for result in read_all_results(tmp_path / name)) for name in ("repeated", "two")]
    assert train_cpu_s[0] == pytest.approx(train_cpu_s[1], abs=0.1)
