"""Soak test with `kill -9` at random moments of collect, train, run, evaluate and report.

After each kill the same command starts again, until it ends. What was finished before a kill stays
as it is on disk, and the final result equals that of a command without kills, compute times apart.
"""

import hashlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq
from common import Summary, make_parser
from safetensors import safe_open

from experiments import cli
from experiments.compute_costs import COSTS_DIR
from experiments.viewer import recordings
from sim.data.store import make_shard_name
from sim.scenes.scene import scenes
from sim.utils.files import hash_file
from worldmodels.model import models

KILLS_PER_CHAIN = (1, 5)  # kills of one command until it may end
TWO_WORKERS_SHARE = 0.3  # of chains; else one worker, which starts faster
GROUP_SHARE = 0.3  # of kills that reach the workers in the same moment; else only the main process
MAX_SECONDS = 900.0  # of one command
TIMES = re.compile(r"(^|_)(seconds|cpu_s|time_s|ms_p\d+)$|^decision_time_s$")  # keys of compute times
UNTIMED_DIRECTORIES = ("tensorboard", COSTS_DIR, ".cache")
TINY_EXPERIMENT = """
scene = "{scene}"
held_out_steps = 600
baselines = []
[planner]
samples = 4
iterations = 1
horizon = 3
[collection_planner]
samples = 4
iterations = 1
horizon = 3
[[rounds]]
steps = 600
updates = 4
behaviours = {{ scripted-noisy = 1.0 }}
[[rounds]]
steps = 600
behaviours = {{ planner = 0.5, scripted-noisy = 0.5 }}
[[models]]
name = "graph"
train = {{ updates = 6, batch = 16, lengths = [2], validate_every = 2 }}
[episodes]
test = 2
"""

State = dict[str, str]  # hash of the content by path in a directory
Marks = dict[str, tuple[str, int]]  # hash and time of the last change of finished units, by path


@dataclass(frozen=True)
class Step:
    """A command to kill, in a fresh copy of its input."""

    name: str
    words: tuple[str, ...]  # of `ground`, in the work directory
    output: str  # the directory that it writes, below the work directory
    find_units: Callable[[Path], list[Path]]  # finished units below the output
    input: Path | None = None  # copied to the output first
    has_workers: bool = False

    def get_worker_words(self, workers: int) -> tuple[str, ...]:
        """Return the option of the number of workers, where the command has it."""
        return ("--workers", str(workers)) if self.has_workers else ()


@dataclass
class Reference:
    """What a command without kills leaves, and when."""

    state: State
    start_s: float  # until its first file
    seconds: float
    unstable: set[str] = field(default_factory=set)  # files that differ between two commands without kills


def hash_state(path: Path) -> State:
    """Hash all files that a result consists of, without compute times.

    Args:
        path: output of a command.

    Returns:
        Hashes by path below it.
    """
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != ".lock"]
    files = [file for file in files if not set(UNTIMED_DIRECTORIES) & set(file.relative_to(path).parts)]
    return {str(file.relative_to(path)): hash_content(file) for file in files if not is_temporary(file)}


def is_temporary(file: Path) -> bool:
    """Return True for a file that a killed process was still writing."""
    return file.name.startswith(".") and file.name.endswith(".tmp")


def hash_content(file: Path) -> str:
    """Hash a file; compute times in JSON files and results are left out."""
    if file.suffix == ".json":
        content = remove_times(json.loads(file.read_text(encoding="utf-8")))
    elif file.suffix == ".result":
        content = [remove_times(record) for record in pq.read_table(file).to_pylist()]
    elif file.suffix == ".safetensors":  # the order of metadata is not part of a result
        with safe_open(file, framework="numpy") as tensors:
            content = {name: hashlib.sha256(tensors.get_tensor(name).tobytes()).hexdigest() for name in sorted(tensors.keys())}
    else:
        return hash_file(file)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def remove_times(value: Any) -> Any:
    """Remove the entries of compute times, at any depth."""
    if isinstance(value, Mapping):
        return {key: remove_times(item) for key, item in value.items() if not TIMES.search(key)}
    return [remove_times(item) for item in value] if isinstance(value, list) else value


def find_shards(path: Path) -> list[Path]:
    """Find complete shards of datasets."""
    return sorted(path.rglob(make_shard_name(0).replace("00000", "[0-9]*")))


def find_results(path: Path) -> list[Path]:
    """Find results of episodes with their episodes; a result marks its episode as finished."""
    results = sorted(path.rglob("*.result"))
    return [file for result in results for file in (result, result.with_suffix(".parquet"))]


def find_finished_models(path: Path) -> list[Path]:
    """Find models whose training has ended."""
    files = []
    for last in sorted(path.rglob("last.json")):
        if json.loads(last.read_text(encoding="utf-8")).get("finished"):
            files += [last, *sorted(last.parent.glob("*.safetensors"))]
    return files


def find_units_of_run(path: Path) -> list[Path]:
    """Find everything of a run that is finished."""
    errors = [file for file in (path / "open_loop_errors.json",) if file.exists()]
    return [*find_shards(path / "data"), *find_finished_models(path / "models"), *find_results(path / "results"), *errors]


def mark_units(step: Step, work: Path) -> Marks:
    """Read hashes and times of the finished units; images of a layout of 1 ns precision."""
    units = step.find_units(work / step.output)
    return {str(file): (hash_file(file), file.stat().st_mtime_ns) for file in units}


def read_updates(path: Path) -> dict[str, int]:
    """Read the updates of each training so far; they never get fewer."""
    return {str(file): json.loads(file.read_text(encoding="utf-8"))["update"] for file in sorted(path.rglob("last.json"))}


class Command:
    """A `ground` command in a fork of this process, which has all its modules already."""

    def __init__(self, words: tuple[str, ...], work: Path) -> None:
        self._log = work / "command.log"
        self.code: int | None = None  # as of subprocess: negative after a signal
        self.pid = os.fork()
        if self.pid == 0:
            run_forked(words, work, self._log)

    def wait(self, seconds: float) -> bool:
        """Wait for the end; return False if there is none in this time."""
        deadline = time.monotonic() + seconds
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                return False
            else:
                time.sleep(0.005)
        return True

    def finish(self) -> tuple[int, str]:
        """Wait for the end; return exit code and output."""
        if not self.wait(MAX_SECONDS):
            os.killpg(self.pid, signal.SIGKILL)
            self.wait(10)
            return -1, f"no end after {MAX_SECONDS:g} s"
        assert self.code is not None
        return self.code, self._log.read_text(encoding="utf-8", errors="replace")


def run_forked(words: tuple[str, ...], work: Path, log: Path) -> NoReturn:
    """Run a command to its end in this process, which is a fork."""
    code = 1
    try:
        os.setsid()
        os.chdir(work)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["ground", *words]
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def import_commands() -> None:
    """Import what the commands need, once for all forks."""
    for name in cli.COMMANDS:
        cli.load_command(name)
    for module in ("torch.utils.tensorboard", "experiments.report.figures.topdown"):
        importlib.import_module(module)
    recordings.MAX_PLANNING_S = MAX_SECONDS  # else the plans in a recording depend on the load of the machine
    list(scenes)
    list(models)


def prepare(step: Step, work: Path) -> None:
    """Empty the output, and copy the input into it."""
    shutil.rmtree(work / step.output, ignore_errors=True)
    shutil.rmtree(work / "runs" / ".cache", ignore_errors=True)
    if step.input is not None:
        shutil.copytree(step.input, work / step.output)


def make_reference(step: Step, work: Path) -> Reference:
    """Run a command twice without kills: files that differ then are not compared.

    Raises:
        RuntimeError: the command fails.
    """
    states = []
    for _ in range(2):
        prepare(step, work)
        before = set(hash_state(work / step.output))
        start_s = time.monotonic()
        command = Command((*step.words, *step.get_worker_words(1)), work)
        first_s = None
        while first_s is None and not command.wait(0.02):
            files = (file for file in (work / step.output).rglob("*") if file.is_file() and file.name != ".lock")
            if any(str(file.relative_to(work / step.output)) not in before for file in files):
                first_s = time.monotonic() - start_s
        code, output = command.finish()
        seconds = time.monotonic() - start_s
        if code:
            raise RuntimeError(f"{step.name}: {output[-800:]}")
        states.append(hash_state(work / step.output))
    unstable = {name for name in states[0].keys() | states[1].keys() if states[0].get(name) != states[1].get(name)}
    return Reference(states[1], first_s or seconds / 2, seconds, unstable)


def draw_moment(reference: Reference, rng: random.Random) -> float:
    """Draw the time of a kill: mostly while files are written, sometimes earlier or at the end."""
    if rng.random() < 0.1:
        return rng.uniform(0, reference.start_s)
    return rng.uniform(0.8 * reference.start_s, 1.05 * reference.seconds)


def run_chain(step: Step, reference: Reference, work: Path, num_kills: int, rng: random.Random) -> tuple[int, list[str], int]:
    """Kill a command several times, let it end, and compare.

    Returns:
        Number of kills, faults, and number of temporary files that are left.
    """
    prepare(step, work)
    kills = 0
    faults: list[str] = []
    words = (*step.words, *step.get_worker_words(2 if rng.random() < TWO_WORKERS_SHARE else 1))
    units: Marks = mark_units(step, work)
    updates = read_updates(work / step.output)
    for _ in range(num_kills):
        moment_s = draw_moment(reference, rng)
        command = Command(words, work)
        if not command.wait(moment_s):
            reaches_workers = rng.random() < GROUP_SHARE
            try:
                (os.killpg if reaches_workers else os.kill)(command.pid, signal.SIGKILL)
            except ProcessLookupError:  # no group yet
                os.kill(command.pid, signal.SIGKILL)
            kills += 1
        code, output = command.finish()
        if code not in (0, -signal.SIGKILL):
            faults.append(f"after {moment_s:.2f} s it ended with {code}: {output[-400:]}")
        time.sleep(1.0)  # workers end with the killed process
        faults += compare_units(units, step, work)
        units = mark_units(step, work)
        new_updates = read_updates(work / step.output)
        faults += [
            f"{file} fell to update {new_updates.get(file)}" for file in updates if new_updates.get(file, 0) < updates[file]
        ]
        updates = new_updates
        if code == 0:
            break
    code, output = Command(words, work).finish()
    if code:
        faults.append(f"the last command ended with {code}: {output[-400:]}")
    faults += compare_units(units, step, work)
    faults += compare_states(reference, hash_state(work / step.output))
    paths = [*(work / step.output).rglob("*"), *(work / "runs" / ".cache").rglob("*")]
    return kills, faults, sum(is_temporary(path) for path in paths)


def compare_units(units: Marks, step: Step, work: Path) -> list[str]:
    """List finished units that have changed since."""
    after = mark_units(step, work)
    return [f"{file} was finished and has changed" for file in units if after.get(file) != units[file]]


def compare_states(reference: Reference, state: State) -> list[str]:
    """List files that a command without kills does not leave, or leaves otherwise."""
    faults = [f"{name} is missing" for name in reference.state.keys() - state.keys()]
    faults += [f"{name} is left" for name in state.keys() - reference.state.keys()]
    common = (reference.state.keys() & state.keys()) - reference.unstable
    return sorted(faults + [f"{name} differs" for name in common if state[name] != reference.state[name]])


def make_steps(work: Path, scene: str, first: Callable[[Step], None]) -> list[Step]:
    """Make the commands to kill, and the data, model and run that they need.

    Args:
        work: directory of all files.
        scene: scene of all commands.
        first: runs a command once, to make the input of others.
    """
    behaviours = ("--behaviours", "smooth-random=1", "--scene", scene)
    (work / "tiny.toml").write_text(TINY_EXPERIMENT.format(scene=scene), encoding="utf-8")
    collect = Step("collect", ("collect", "data", "--steps", "4000", *behaviours), "data", find_shards, has_workers=True)
    run = Step("run", ("run", "tiny.toml", "--out", "runs"), "runs/tiny", find_units_of_run, has_workers=True)
    first(run)
    finished = work / "input" / "finished"
    shutil.copytree(work / "runs" / "tiny", finished)
    shutil.rmtree(work / "runs")
    data = tuple(str(finished / "data" / name) for name in ("round-1", "val"))
    training = ("--updates", "60", "--validate-every", "5", "--batch", "32", "--lengths", "4", "--threads", "1")
    words = ("train", data[0], "--validation", data[1], "--out", "model", *training)
    train = Step("train", words, "model", find_finished_models)
    words = ("evaluate", "runs/tiny", "--episodes", "6")
    evaluate = Step("evaluate", words, "runs/tiny", find_units_of_run, finished, has_workers=True)
    report = Step("report", ("report", str(finished), "--out", "page"), "page", lambda path: [])
    return [collect, train, run, evaluate, report]


def main() -> int:
    """Run the soak test from the command line."""
    examples = ("kill.py --tries 200 --seed 1", "kill.py --tries 10 --steps train --json summary.json")
    parser = make_parser(str(__doc__), examples)
    parser.add_argument("--tries", type=int, default=200, help="kills (default: 200)")
    parser.add_argument("--minutes", type=float, default=1e9, help="no kill starts after this time")
    parser.add_argument("--steps", nargs="*", default=[], help="commands to kill (default: collect train run evaluate report)")
    parser.add_argument("--scene", default="logistics/tote-push")
    arguments = parser.parse_args()
    summary = Summary("kill", arguments.seed)
    rng = random.Random(arguments.seed)
    os.environ["OMP_NUM_THREADS"] = "1"
    import_commands()
    with tempfile.TemporaryDirectory(prefix="soak-kill-") as directory:
        work = Path(directory)

        def run_once(step: Step) -> None:
            code, output = Command(step.words, work).finish()
            if code:
                raise RuntimeError(f"{step.name}: {output[-800:]}")

        steps = [step for step in make_steps(work, arguments.scene, run_once) if step.name in (arguments.steps or [step.name])]
        references: dict[str, Reference] = {}
        figures: dict[str, dict[str, Any]] = {}
        while summary.num_tries < arguments.tries and time.monotonic() - summary.start_s < 60 * arguments.minutes:
            for step in steps:
                if step.name not in references:
                    references[step.name] = reference = make_reference(step, work)
                    figures[step.name] = {
                        "kills": 0,
                        "chains": 0,
                        "temporary_files_left": 0,
                        "seconds_without_kills": round(reference.seconds, 1),
                        "files": len(reference.state),
                        "not_compared": sorted(reference.unstable),
                    }
                num_kills = min(rng.randint(*KILLS_PER_CHAIN), arguments.tries - summary.num_tries)
                kills, faults, temporary = run_chain(step, references[step.name], work, max(1, num_kills), rng)
                summary.num_tries += kills
                figures[step.name]["kills"] += kills
                figures[step.name]["chains"] += 1
                figures[step.name]["temporary_files_left"] += temporary
                for fault in faults:
                    summary.add_failure(f"{step.name}, kill {summary.num_tries}: {fault}")
                print(f"{time.monotonic() - summary.start_s:.0f} s: {step.name} {kills} kills, {len(faults)} faults", flush=True)
        summary.figures["steps"] = figures
        return summary.finish(arguments.json)


if __name__ == "__main__":
    sys.exit(main())
