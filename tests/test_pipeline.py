"""The whole flow at the smallest size that has all its parts."""

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
from worldmodels.assessment.open_loop import ConstantVelocity
from worldmodels.training import loop as training
from worldmodels.training.loop import TrainConfig

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


def tiny(scene: str) -> ExperimentConfig:
    """Of a scene, with its last shift tier."""
    return replace(TINY, scene=scene, episodes={"test": 1, scenes[scene].splits[-1]: 1})


@pytest.fixture(scope="module", params=list(scenes))
def config(request: pytest.FixtureRequest) -> ExperimentConfig:
    return tiny(request.param)


@pytest.fixture(scope="module")
def finished(config: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped before its evaluation and then gone on with."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "VALIDATION_WINDOWS", 64)  # each is imagined sixteen times among traffic
        with pytest.MonkeyPatch.context() as stop:
            stop.setattr(Pipeline, "evaluate", lambda self: (_ for _ in ()).throw(InterruptedError))
            with pytest.raises(InterruptedError):
                run_experiment(config, path, 1, QUIET)
        made = stamps(path / "data") | stamps(path / "models")
        assert len(made) > 10
        run_experiment(config, path, 1, QUIET)
    torch.set_num_threads(1)
    assert {file: stamp for file, stamp in stamps(path).items() if file in made} == made
    return path


def stamps(path: Path) -> dict[Path, int]:
    """When each file was written; but locks, manifests and the ledger, which a finished step may write again."""
    files = (file for file in path.rglob("*") if file.is_file() and file.name not in (".lock", "_manifest.parquet"))
    files = (file for file in files if file.parent.name != COSTS_DIR)
    return {file: file.stat().st_mtime_ns for file in files}


def test_a_run_has_data_models_results_and_a_report(config: ExperimentConfig, finished: Path) -> None:
    results = read_all_results(finished)
    methods = {"random", "scripted", "graph+mppi"}
    played = {(method, split, index) for method in methods for split, n in config.episodes.items() for index in range(n)}
    assert {(result.method, result.split, result.index) for result in results} == played
    assert len(results) == len(played)
    by_arm = {method: [(result.layout_id, result.seed) for result in results if result.method == method] for method in methods}
    assert by_arm["random"] == by_arm["scripted"] == by_arm["graph+mppi"]
    planned = [result for result in results if result.method == "graph+mppi"]
    assert {result.env_steps for result in planned} == {2 * STEPS}
    assert min(result.train_cpu_s for result in planned) > 0
    page = (finished / "report" / "index.html").read_text()
    assert "tiny" in page
    assert list((finished / "report" / "recordings").glob("*.html"))
    assert {line["model"] for line in json.loads((finished / "open_loop_errors.json").read_text())} == {
        "graph",
        ConstantVelocity.name,
    }
    assert "torch" in json.loads((finished / "versions.json").read_text())


def test_what_is_kept_of_a_run_tells_the_same(finished: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    file = export_run(finished, kept)
    assert file.stat().st_size < 100_000
    assert sum(part.stat().st_size for part in kept.rglob("*") if part.is_file()) < 120_000
    results, again = read_all_results(finished), read_all_results(kept)
    assert [replace(result, training_distance=None) for result in again] == results
    assert all(result.training_distance is not None and result.training_distance >= 0 for result in again)
    assert format_summary_markdown(read_runs([kept]).results) == format_summary_markdown(results)
    pages = [build_report(path, out=tmp_path / "report" / path.name).read_text() for path in (finished, kept)]
    assert [page.count("<td>") for page in pages] == [pages[0].count("<td>")] * 2
    assert "is an export: its episodes cannot be shown" in pages[1]
    assert not list((tmp_path / "report" / "kept").rglob("recordings/*"))
    assert export_run(kept, tmp_path / "again").read_bytes() == file.read_bytes()
    with pytest.raises(GroundError, match="no evaluated episodes of split 'nowhere'"):
        read_runs([kept], "nowhere")
    with pytest.raises(GroundError, match="is an export, without episodes"):
        verify(kept)


def test_a_trained_model_can_be_kept_and_plans_elsewhere(config: ExperimentConfig, finished: Path, tmp_path: Path) -> None:
    export_models(finished, ["graph"], tmp_path)
    kept = tmp_path / "models" / "graph"
    assert sorted(file.name for file in kept.iterdir()) == ["best.json", "best.safetensors"]
    external = kept.rename(tmp_path / "external")
    (tmp_path / "run").mkdir()
    other = MethodSet(replace(config, models=()), tmp_path / "run")
    other.add_external_models([external])
    (method,) = (method for method in other.make_all() if method.model)
    own = next(method for method in MethodSet(config, finished).make_all() if method.label == "graph+mppi")
    assert (method.cache_content, method.seen_layouts, method.env_steps) == (own.cache_content, own.seen_layouts, own.env_steps)
    with pytest.raises(UnknownName, match="trained model 'grap': did you mean 'graph'"):
        export_models(finished, ["grap"], tmp_path)
    with pytest.raises(BadFile, match="run holds no trained models"):
        export_models(tmp_path / "run", ["graph"], tmp_path)


def test_episodes_of_several_protocols_are_kept_and_chosen_from(finished: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    export_run(finished, kept)
    results = read_all_results(kept)
    export_results(finished, [*results, *(replace(result, protocol="other") for result in results)], kept)
    export_run(kept, tmp_path / "again")
    assert len(read_all_results(tmp_path / "again")) == 2 * len(results)
    with pytest.raises(GroundError, match="different protocols"):
        read_runs([tmp_path / "again"])
    others = read_runs([tmp_path / "again"], protocol="other")
    assert len(others.results) == len(results)
    page = write_comparison(others, tmp_path / "report").read_text()
    assert f"ground compare {tmp_path / 'again'} --protocol other --out {tmp_path / 'report'}" in page


def test_later_spaces_are_played_and_told_alone(config: ExperimentConfig, finished: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(finished, tmp_path / "run"))
    before = read_all_results(path)
    later = replace(config, episodes={"test": 2})
    Pipeline(later, path, 1, QUIET, method_names=("random",), is_evaluation_only=True, first_index=7).evaluate()
    assert len(read_all_results(path)) == len(before) + 4, "the scripted method is evaluated too"
    found = read_runs([path], "test", first_index=7)
    assert {result.index for result in found.results} == {7, 8}
    page = write_comparison(found, tmp_path / "report").read_text()
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


def test_no_layout_has_two_roles(config: ExperimentConfig, finished: Path) -> None:
    ids = {name: Dataset.open(finished / "data" / name).layout_ids for name in ("round-1", "round-2", "val", "test")}
    assert not ids["round-1"] & ids["round-2"]
    evaluated = {result.layout_id for result in read_all_results(finished)}
    assert not evaluated & (ids["round-1"] | ids["round-2"] | ids["val"])
    second = Dataset.open(finished / "data" / "round-2")
    assert second.manifest["tags"] == {"planner": "graph-round-1"}
    assert any(episode.behaviour == "planner" for episode in second.episodes())


def test_a_finished_run_only_writes_its_report_again(
    config: ExperimentConfig, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = finished / "report" / "index.html"
    monkeypatch.setattr(pipeline, "build_report", lambda path, *_: page)
    before = stamps(finished)
    assert run_experiment(config, finished, 1, QUIET) == page
    assert stamps(finished) == before


def test_a_run_from_before_an_option_was_there_goes_on(config: ExperimentConfig, tmp_path: Path) -> None:
    versions.start_or_resume(config, tmp_path, QUIET)
    content = json.loads((tmp_path / "config.json").read_text())
    del content["protocol"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    versions.start_or_resume(config, tmp_path, QUIET)


def test_a_run_resumed_by_other_code_says_so_each_time(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    console = Console(file=said)
    begun = versions.read_versions()
    for code in ("first", "first", "second", "second", "third"):
        monkeypatch.setattr(versions, "read_versions", lambda code=code: {**begun, "code": code})
        versions.start_or_resume(config, tmp_path, console)
    assert said.getvalue().count("code first before, second now") == 1
    assert said.getvalue().count("before") == 2
    content = json.loads((tmp_path / "versions.json").read_text())
    assert content == {**begun, "code": "first", versions.RESUMPTIONS_KEY: [{"code": "second"}, {"code": "third"}]}


def test_steps_of_other_code_are_not_added_to_the_cache(config: ExperimentConfig, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    versions = json.loads((tmp_path / "run" / "versions.json").read_text())
    (tmp_path / "run" / "versions.json").write_text(json.dumps({**versions, "code": "other"}))
    run_experiment(config, tmp_path / "run", 1, QUIET, Cache(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("entry.json"))


def test_another_configuration_is_refused(config: ExperimentConfig, finished: Path) -> None:
    with pytest.raises(GroundError, match="begun with another seed"):
        run_experiment(replace(config, seed=1), finished, 1, QUIET)


def test_a_custom_layout_is_evaluated_with_every_method(config: ExperimentConfig, finished: Path) -> None:
    layout = scenes[config.scene].sample_layout("val", 777)
    results = Pipeline(config, finished, 1, QUIET).evaluate_layouts([replace(layout, name="mine")])
    assert [result.method for result in results] == ["random", "scripted", "graph+mppi"]
    assert {result.layout_id for result in results} == {layout.id}
    assert all(result in read_episode_results(finished / "results") for result in results)


def test_oracles_run_their_own_number_of_episodes_in_a_custom_layout(
    config: ExperimentConfig, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = scenes[config.scene].sample_layout("val", 777)
    monkeypatch.setattr(pipeline, "evaluate", lambda method, specs, *_: [(method.label, len(specs))])
    others = [("random", 3), ("scripted", 3), ("graph+mppi", 3)]
    for option, label in (("oracle_episodes", "oracle"), ("oracle_large_episodes", "oracle-large")):
        evaluated = Pipeline(replace(config, **{option: 1}), finished, 1, QUIET).evaluate_layouts([layout], 3)
        assert evaluated == [*others, (label, 1)]


def test_a_custom_layout_that_a_model_has_seen_is_refused(config: ExperimentConfig, finished: Path) -> None:
    seen: Layout = next(Dataset.open(finished / "data" / "round-1").episodes()).layout
    with pytest.raises(GroundError, match=f"trained on layout {seen.id}"):
        Pipeline(config, finished, 1, QUIET).evaluate_layouts([replace(seen, name="disguised")])


def test_an_external_model_that_was_trained_on_is_another(config: ExperimentConfig, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    external = Path(shutil.copytree(finished / "models" / "graph", tmp_path / "external"))
    MethodSet(config, tmp_path / "run").add_external_models([external])
    assert "external+mppi" in {method.name for method in MethodSet(config, tmp_path / "run").make_all()}
    weights = load_file(external / "best.safetensors")
    save_file({name: values + 1 for name, values in weights.items()}, external / "best.safetensors")
    with pytest.raises(GroundError, match="another model called external"):
        MethodSet(config, tmp_path / "run").add_external_models([external])
    methods = MethodSet(config, tmp_path / "run")
    assert "external+mppi" not in {method.name for method in methods.make_all()}, "the others go on without it"
    assert "was trained on since it was added" in methods.find_missing_external_methods()["external+mppi"]
    assert "was trained on since it was added" in methods.make_available()[1]["external+mppi"]
    with pytest.raises(GroundError, match=r"external.mppi cannot be evaluated: .* was trained on since it was added"):
        MethodSet(config, tmp_path / "run", ("external+mppi",)).make_all()


def test_an_external_model_may_move(config: ExperimentConfig, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    external = Path(shutil.copytree(finished / "models" / "graph", tmp_path / "here" / "external"))
    methods = MethodSet(config, tmp_path / "run")
    methods.add_external_models([external])
    (tmp_path / "there").mkdir()
    moved = external.rename(tmp_path / "there" / "external")
    assert "holds no trained model any more" in methods.find_missing_external_methods()["external+mppi"]
    Pipeline(config, tmp_path / "run", 1, QUIET).measure_open_loop_errors()
    methods.add_external_models([moved])
    assert "external+mppi" in {method.name for method in methods.make_all()}
    (moved / "best.json").write_text('{"layouts": [')
    assert "damaged" in methods.find_missing_external_methods()["external+mppi"]
    assert "damaged" in methods.make_available()[1]["external+mppi"]


def test_a_method_with_a_time_budget_is_not_cached(config: ExperimentConfig, finished: Path) -> None:
    free, bound = (
        {method.name: method.cache_content for method in MethodSet(replace(config, budget_s=budget), finished).make_all()}
        for budget in (None, 0.05)
    )
    assert free["graph+mppi"] is not None
    assert bound["graph+mppi"] is None
    assert bound["scripted"] == free["scripted"] is not None


def test_progress_covers_the_steps_that_run(config: ExperimentConfig, finished: Path) -> None:
    said = io.StringIO()
    Pipeline(config, finished, 1, Console(file=said), is_evaluation_only=True).evaluate()
    count = 3 * len(config.episodes)
    assert f"{count} of {count} steps" in said.getvalue()
    slow = replace(config.models[0], episodes=1)
    expected = [
        Pipeline(replace(config, models=(model,)), finished, 1, QUIET)._estimate_evaluation_s({"test": 30})["test: graph+mppi"]
        for model in (slow, config.models[0])
    ]
    assert 30 * expected[0] == expected[1]


def test_finished_steps_cost_nothing(config: ExperimentConfig, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    before = read_costs(tmp_path / "run")
    steps = Pipeline(config, tmp_path / "run", 1, QUIET)
    steps.collect()
    steps.train()
    assert read_costs(tmp_path / "run") == before
    assert min(before.values()) > 0


def test_an_evaluation_by_other_code_is_recorded(config: ExperimentConfig, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    file = tmp_path / "run" / "versions.json"
    begun = json.loads(file.read_text())
    file.write_text(json.dumps({**begun, "git": "another"}))
    evaluate_command(tmp_path / "run", episodes=1, workers=1)
    assert versions.RESUMPTIONS_KEY not in json.loads(file.read_text()), "a commit that left the code as it was"
    file.write_text(json.dumps({**begun, "code": "other"}))
    with pytest.raises(UnknownName):
        evaluate_command(tmp_path / "run", split="tset", workers=1)
    with pytest.raises(UnknownName):
        evaluate_command(tmp_path / "run", episodes=1, methods=("nobody",), workers=1)
    assert versions.RESUMPTIONS_KEY not in json.loads(file.read_text()), "nothing was made"
    evaluate_command(tmp_path / "run", episodes=1, workers=1)
    assert json.loads(file.read_text())[versions.RESUMPTIONS_KEY] == [{"code": begun["code"]}]


def test_an_export_does_not_mix_with_a_run(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(GroundError, match="is a run itself"):
        export_command(finished, tmp_path / "run")
    assert stamps(tmp_path / "run").keys() == {tmp_path / "run" / file.relative_to(finished) for file in stamps(finished)}


def test_the_methods_cover_the_training_grid() -> None:
    graph, mlp = ModelTrainingConfig("graph"), ModelTrainingConfig("mlp", searches=("mppi",))
    config = replace(
        TINY,
        rounds=(CollectionRound(4000),),
        models=(graph, mlp),
        searches=("mppi", "cem"),
        train_seeds=(0, 3),
        data_steps=(2000, 4000),  # the second is all there is
        baselines=(BaselineTrainingConfig("sac"), BaselineTrainingConfig("ppo", 1_000_000), BaselineTrainingConfig("dyna")),
        baseline_steps=3000,
    )
    trained = ["graph+mppi", "graph+cem", "mlp+mppi", "graph+mppi-2k", "mlp+mppi-2k", "sac", "sac-2k", "ppo-1000k", "dyna"]
    methods = MethodSet(config, Path("nowhere")).select_recipes()
    assert set(methods) == {"random", "scripted", *trained, *(f"{name}@3" for name in trained)}
    other = replace(config, searches=("cem",), models=(graph,), baselines=())
    assert set(MethodSet(other, Path("nowhere")).select_recipes()) - {"random", "scripted"} == {
        f"{name}{seed}" for name in ("graph+cem", "graph+mppi-2k") for seed in ("", "@3")
    }
    some = MethodSet(config, Path("nowhere"), ("graph+mppi-2k", "sac")).select_recipes()
    assert set(some) == {"random", "scripted", *(f"{name}{seed}" for name in ("graph+mppi-2k", "sac") for seed in ("", "@3"))}
    with pytest.raises(GroundError, match=r"unknown method 'graph.mpi': did you mean 'graph.mppi'"):
        MethodSet(config, Path("nowhere"), ("graph+mpi",)).select_recipes()


def read_untimed(run_path: Path) -> list[EpisodeResult]:
    """Results without what a clock says, and without the run's name."""
    timed = {"decision_ms_p50": 0.0, "decision_ms_p95": 0.0, "decision_time_s": 0.0, "train_cpu_s": 0.0, "collect_cpu_s": 0.0}
    results = [replace(result, run="", **timed) for result in read_all_results(run_path)]
    return sorted(results, key=lambda result: (result.method, result.train_seed or 0))


def test_results_are_the_same_for_any_workers_and_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(
        TINY, rounds=(CollectionRound(2000, {TOUCHING: 1.0}),), searches=("mixed",), train_seeds=(0, 1), episodes={"test": 1}
    )
    monkeypatch.setattr(pipeline, "build_report", lambda *args: args[0])
    cache = Cache(tmp_path / "cache")
    run_experiment(config, tmp_path / "two", 2, QUIET, cache)
    run_experiment(config, tmp_path / "one", 1, QUIET)
    results = read_untimed(tmp_path / "two")
    assert results == read_untimed(tmp_path / "one")
    assert [(result.method, result.train_seed) for result in results] == [
        ("graph+mixed", 0), ("graph+mixed", 1), ("random", None), ("scripted", None)
    ]  # fmt: skip
    assert results[0].total_cost != results[1].total_cost
    planned = results[0]
    assert (planned.search_samples, planned.search_iterations, planned.search_horizon) == (4, 1, 3)
    assert planned.data_bytes > 10_000

    def not_again(*args: Any) -> None:
        raise AssertionError("a cached step runs again")

    for module, name in ((collecting, "collect_shard"), (evaluate_module, "run_and_write_batch"), (trainings, "train_model")):
        monkeypatch.setattr(module, name, not_again)
    monkeypatch.setattr(trainings, "run_jobs", lambda function, jobs, *_: [(index, 0.0) for index, *_ in jobs])
    run_experiment(replace(config, name="again"), tmp_path / "again", 1, QUIET, cache)
    assert read_untimed(tmp_path / "again") == results
    assert {result.run for result in read_all_results(tmp_path / "again")} == {"again"}
    spent = [max(result.train_cpu_s for result in read_all_results(tmp_path / name)) for name in ("again", "two")]
    assert spent[0] == pytest.approx(spent[1], abs=0.1)
