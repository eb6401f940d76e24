"""The viewer in a real browser: what a person would see and press. Skipped where there is no Chromium."""

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import Ground
from PIL import Image

from agents.planning.search import SearchConfig
from experiments.config.experiment import ExperimentConfig
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.specs import make_episode_specs
from experiments.methods.method import Method
from experiments.viewer.drawing import browser
from experiments.viewer.drawing.overlays import OVERLAY_DESCRIPTIONS
from experiments.viewer.drawing.recording import save_recording
from experiments.viewer.replay.replay import EpisodeSetup, Replay
from sim.data.store import Dataset
from sim.scenes.scene import scenes

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e .[dev]")
pytestmark = pytest.mark.skipif(browser.find_chromium() is None, reason=f"no Chromium: {browser.CHROMIUM_NAMES} were looked for")

SCENE = "logistics/tote-push"
RECORDED = "logistics/aisle-traffic"  # one of them: each takes half a minute
PATIENCE_MS = 90_000  # software WebGL on a shared core
SCENE_WIDTH = 800  # pixels left of the panel


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with playwright.sync_playwright() as tools:
        yield tools.chromium.launch(
            executable_path=browser.find_chromium(), args=[*browser.RENDER_FLAGS[1:], *browser.QUIET_FLAGS]
        )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is still being made: two arms have played, there is no model yet, and one row is damaged."""
    path, scene = tmp_path_factory.mktemp("runs") / "unfinished", RECORDED
    for name in ("scripted", "random"):
        trials = make_episode_specs("unfinished", scenes[scene], "test", 2)
        evaluate(Method(name, scenes[scene].behaviours[name]), trials, path / "results" / name)
    (path / "results" / "random" / "test-00001.result").write_bytes(b"PAR1 half of a file")
    quick = SearchConfig(samples=4, iterations=1, horizon=10)
    (path / "config.json").write_text(json.dumps(asdict(ExperimentConfig("unfinished", scene, oracle_planner=quick))))
    return path


class Viewer:
    """`ground view` in a process of its own, and its page."""

    def __init__(self, shots: Path) -> None:
        self._shots = shots

    def open(self, chromium: object, *words: object) -> None:
        self._ground = Ground("view", *words, "--port", 8200)
        line = self._ground.process.stdout.readline()
        while line and "http://" not in line:
            line = self._ground.process.stdout.readline()
        self.page = chromium.new_page(viewport={"width": 1200, "height": 760})  # type: ignore[attr-defined]
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.goto(re.search(r"http://\S+:\d+", line)[0], wait_until="domcontentloaded")  # type: ignore[index]
        self.page.get_by_text("play / pause").wait_for()
        self.until(lambda: self.shot("first").std() > 20)

    def shot(self, name: str) -> np.ndarray:
        """The scene's part of the page (rows, columns, 3)."""
        png = self.page.screenshot(path=self._shots / f"{name}.png", timeout=PATIENCE_MS)
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float)[:, :SCENE_WIDTH]

    def stands(self) -> bool:
        """Whether the frame stays the same for a while. The page can be behind, so the first look does not tell."""
        before = self.frame
        time.sleep(3)
        return self.frame == before

    @property
    def cost(self) -> float:
        return float(re.search(r"cost ([\d.]+) m", self.text)[1])  # type: ignore[index]

    def scrub(self, frame: int) -> None:
        """The timeline's own number."""
        box = self.page.get_by_role("textbox").first
        box.fill(str(frame))
        box.press("Enter")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def choose(self, label: str, value: str) -> None:
        """An option of a list in the tab that is open."""
        self.page.get_by_label(label, exact=True).locator("visible=true").first.click()
        self.page.get_by_role("option", name=value, exact=True).locator("visible=true").first.click()

    def upload(self, name: str, file: Path) -> None:
        with self.page.expect_file_chooser() as chooser:
            self.press(name)
        chooser.value.set_files(file)

    def download(self, name: str, to: Path) -> bytes:
        with self.page.expect_download(timeout=5 * PATIENCE_MS) as download:  # each picture of a film is drawn by the page
            self.press(name)
        download.value.save_as(to)
        return to.read_bytes()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    @property
    def frame(self) -> int:
        """That is shown; -1 while an error stands there instead."""
        found = re.search(r"step (\d+)", self.text)
        return int(found[1]) if found else -1

    @property
    def text(self) -> str:
        """The lines about each take."""
        return "\n".join(self.page.locator("p", has_text="step").all_inner_texts())

    def until(self, happened: object) -> None:
        deadline = time.monotonic() + PATIENCE_MS / 1e3
        while not happened():  # type: ignore[operator]
            assert time.monotonic() < deadline, self.text
            time.sleep(0.3)

    def end(self) -> None:
        """Close the page; the server ends by itself, after a while that one test waits for."""
        self.page.close()
        assert self._ground.process.wait(timeout=60) == 0

    def kill(self) -> None:
        """Leave nothing: a page that stays open would look at the next viewer on this port."""
        if hasattr(self, "page"):
            self.page.close()
        self._ground.process.kill()
        self._ground.process.wait()


@pytest.fixture
def view(chromium: object, tmp_path: Path) -> Iterator[Callable[..., Viewer]]:
    """Opens viewers, and leaves none behind."""
    opened: list[Viewer] = []

    def open_(*words: object) -> Viewer:
        opened.append(Viewer(tmp_path))
        opened[-1].open(chromium, *words)
        return opened[-1]

    yield open_
    for viewer in opened:
        viewer.kill()


def moved(before: np.ndarray, after: np.ndarray) -> float:
    """Share of pixels that are clearly different."""
    return float((np.abs(before - after).max(-1) > 40).mean())


@pytest.mark.parametrize("scene", list(scenes))
def test_a_live_scene_plays_pauses_scrubs_and_changes_its_method(view: Callable[..., Viewer], scene: str) -> None:
    viewer = view("--scene", scene)
    viewer.until(lambda: viewer.frame > 15)
    viewer.press("play / pause")
    viewer.until(viewer.stands)
    late = viewer.shot("paused")
    viewer.scrub(5)
    viewer.until(lambda: viewer.frame == 5)
    viewer.press("step")
    viewer.until(lambda: viewer.frame == 6)
    viewer.press("to the start")
    viewer.until(lambda: viewer.frame == 0)
    viewer.until(lambda: moved(viewer.shot("scrubbed"), late) > 0.005)
    assert moved(viewer.shot("scrubbed"), late) < 0.5, "more than what moves has changed"
    viewer.tab("Live")
    viewer.choose("method", "random")
    viewer.press("Start")
    viewer.until(lambda: "random" in viewer.text and viewer.frame > 3)
    viewer.choose("speed", "0.25 ×")  # there is time for a few pictures
    viewer.tab("Live")
    viewer.choose("method", "you")
    viewer.press("Start")
    viewer.page.get_by_text("you drive: no speed").wait_for()
    still, cost = viewer.shot("before driving"), viewer.cost
    time.sleep(1)
    assert abs(viewer.cost - cost) < 0.015, "nobody drives yet"  # the picture can be behind
    viewer.page.keyboard.press("i")
    viewer.page.keyboard.press("i")
    viewer.until(lambda: moved(still, viewer.shot("driven")) > 0.003)
    viewer.until(lambda: abs(viewer.cost - cost) > 0.015)


def test_a_custom_layout_is_opened_and_saved_as_a_page_and_a_film(view: Callable[..., Viewer], tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    scenes[SCENE].sample_layout("val", 3).save(own)
    viewer = view("--method", "random")
    viewer.tab("Live")
    (tmp_path / "bad.json").write_text('{"format": 1}')
    viewer.upload("Start in a custom layout (JSON)", tmp_path / "bad.json")
    viewer.page.get_by_text("bad.json").first.wait_for()
    viewer.until(lambda: viewer.frame > 8)
    before = viewer.shot("before")
    viewer.upload("Start in a custom layout (JSON)", own)
    viewer.until(lambda: "val/3" in viewer.text)
    viewer.press("play / pause")
    viewer.until(viewer.stands)
    assert moved(viewer.shot("own"), before) > 0.02
    viewer.tab("Save")
    page = viewer.download("Save as HTML", tmp_path / "own.html")
    assert b"<html" in page[:2000].lower()
    viewer.download("Save as mp4", tmp_path / "own.mp4")
    frames, _ = imageio_ffmpeg.count_frames_and_secs(tmp_path / "own.mp4")
    assert viewer.frame + 10 < frames <= viewer.frame + 13
    viewer.end()


def test_recorded_episodes_are_listed_watched_beside_each_other_and_gone_on_with(
    view: Callable[..., Viewer], watched: Path, tmp_path: Path
) -> None:
    viewer = view(watched)
    viewer.tab("Episodes")
    viewer.page.get_by_text("1 damaged or unfinished left out").wait_for()
    viewer.choose("method", "scripted")
    viewer.page.get_by_text("compare with", exact=True).click()
    viewer.page.get_by_label("random", exact=True).check()
    viewer.press("Watch")
    viewer.until(lambda: "scripted" in viewer.text and "random" in viewer.text)
    viewer.until(lambda: viewer.frame > 10)
    viewer.press("play / pause")
    viewer.until(viewer.stands)
    viewer.tab("Watch")
    for name in ("cost field", "lidar rays"):
        before = viewer.shot("side by side")
        viewer.page.get_by_label(name, exact=True).check()
        viewer.until(lambda: moved(before, viewer.shot(name)) > 0.005)  # noqa: B023
    for name in OVERLAY_DESCRIPTIONS:
        viewer.page.get_by_label(name, exact=True).set_checked(name == "plan")
    viewer.choose("continue with", "oracle")
    viewer.press("Continue from this frame")
    viewer.page.get_by_text("rebuilt to within 0 mm").wait_for()
    viewer.until(lambda: "oracle from step" in viewer.text)
    at = int(re.search(r"from step (\d+)", viewer.text)[1])  # type: ignore[index]
    viewer.until(lambda: viewer.frame > at + 1)
    viewer.press("play / pause")
    viewer.shot("branched")
    viewer.tab("Save")
    viewer.page.locator("input[value=episodes]").fill(str(tmp_path / "kept"))
    for take in ("1 scripted", f"2 oracle from step {at}"):
        viewer.choose("replay", take)
        viewer.press("Save as an episode")
        viewer.page.get_by_text("saved:").wait_for()
    kept = tmp_path / "kept" / "test"
    viewer.until(lambda: kept.is_dir() and len(list(Dataset.open(kept).episodes())) == 2)


def test_a_film_is_as_long_as_its_longest_take(tmp_path: Path) -> None:
    setting = EpisodeSetup(SCENE, scenes[SCENE].sample_layout("test", 0))
    ahead = np.tile(np.array((1.0, 0.0), np.float32), (9, 1))
    takes = [Replay("ahead", setting, None, ahead), Replay("random", setting, scenes[SCENE].behaviours["random"]())]
    for _ in range(9):
        takes[0].advance()
    save_recording(takes, tmp_path / "film.mp4")
    for take in takes:
        take.close()
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(tmp_path / "film.mp4")
    assert (frames, seconds) == (20, pytest.approx(2.0, abs=0.1)), "the last frame stays for a second"
    film = imageio_ffmpeg.read_frames(tmp_path / "film.mp4")
    width, height = next(film)["size"]
    pictures = [np.frombuffer(picture, np.uint8).reshape(height, width, 3).astype(float) for picture in film]
    assert pictures[0].std() > 20
    assert 0 < (pictures[0].max(-1) < 30).mean() < 0.005, "names are as large as halls, or not there"
    assert moved(pictures[0], pictures[-1]) > 0.001
