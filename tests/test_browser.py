"""The viewer in a browser, by its visible controls. Skipped without Chromium."""

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
RECORDED = "logistics/aisle-traffic"  # a single scene: each takes half a minute
ARM_SCENE = "factory/push-fixture"
PATIENCE_MS = 90_000  # software WebGL on a shared core
SCENE_WIDTH = 800  # width left of the panel [pixels]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with playwright.sync_playwright() as tools:
        yield tools.chromium.launch(
            executable_path=browser.find_chromium(), args=[*browser.RENDER_FLAGS[1:], *browser.QUIET_FLAGS]
        )


@pytest.fixture(scope="module")
def unfinished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an unfinished run: two methods are evaluated, no model exists, and one result is damaged."""
    path, scene = tmp_path_factory.mktemp("runs") / "unfinished", RECORDED
    for name in ("scripted", "random"):
        specs = make_episode_specs("unfinished", scenes[scene], "test", 2)
        evaluate(Method(name, scenes[scene].behaviours[name]), specs, path / "results" / name)
    (path / "results" / "random" / "test-00001.result").write_bytes(b"PAR1 half of a file")
    search = SearchConfig(samples=4, iterations=1, horizon=10)
    (path / "config.json").write_text(json.dumps(asdict(ExperimentConfig("unfinished", scene, oracle_planner=search))))
    return path


class Viewer:
    """`ground view` in a separate process, and its page."""

    def __init__(self, screenshots: Path) -> None:
        self._screenshots = screenshots

    def open(self, chromium: object, *words: object) -> None:
        self._ground = Ground("view", *words, "--port", 8200)
        line = self._ground.process.stdout.readline()
        while line and "http://" not in line:
            line = self._ground.process.stdout.readline()
        self.page = chromium.new_page(viewport={"width": 1200, "height": 760})  # type: ignore[attr-defined]
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.goto(re.search(r"http://\S+:\d+", line)[0], wait_until="domcontentloaded")  # type: ignore[index]
        self.page.get_by_text("play / pause").wait_for()
        self.wait_until(lambda: self.take_screenshot("first").std() > 20)

    def take_screenshot(self, name: str) -> np.ndarray:
        """Take a screenshot of the scene beside the panel (rows, columns, 3)."""
        png = self.page.screenshot(path=self._screenshots / f"{name}.png", timeout=PATIENCE_MS)
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float)[:, :SCENE_WIDTH]

    def is_paused(self) -> bool:
        """Check that the frame does not change for 3 s, because the page can be late."""
        before = self.frame
        time.sleep(3)
        return self.frame == before

    @property
    def cost(self) -> float:
        return float(re.search(r"cost ([\d.]+) m", self.text)[1])  # type: ignore[index]

    def seek(self, frame: int) -> None:
        """Enter a frame number in the timeline."""
        box = self.page.get_by_role("textbox").first
        box.fill(str(frame))
        box.press("Enter")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def choose(self, label: str, value: str) -> None:
        """Choose an option of a list in the open tab."""
        self.page.get_by_label(label, exact=True).locator("visible=true").first.click()
        self.page.get_by_role("option", name=value, exact=True).locator("visible=true").first.click()

    def upload(self, name: str, file: Path) -> None:
        with self.page.expect_file_chooser() as chooser:
            self.press(name)
        chooser.value.set_files(file)

    def download(self, name: str, to: Path) -> bytes:
        with self.page.expect_download(timeout=5 * PATIENCE_MS) as download:  # the page renders each frame of a video
            self.press(name)
        download.value.save_as(to)
        return to.read_bytes()

    def open_tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    @property
    def frame(self) -> int:
        """Index of the shown frame; -1 if an error is shown instead."""
        match = re.search(r"step (\d+)", self.text)
        return int(match[1]) if match else -1

    @property
    def text(self) -> str:
        """Status lines of all replays."""
        return "\n".join(self.page.locator("p", has_text="step").all_inner_texts())

    def wait_until(self, condition: object) -> None:
        deadline = time.monotonic() + PATIENCE_MS / 1e3
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < deadline, self.text
            time.sleep(0.3)

    def end(self) -> None:
        """Close the page and wait until the server ends by itself."""
        self.page.close()
        assert self._ground.process.wait(timeout=60) == 0

    def kill(self) -> None:
        """Close the page and the server: an open page would connect to the next viewer on this port."""
        if hasattr(self, "page"):
            self.page.close()
        self._ground.process.kill()
        self._ground.process.wait()


@pytest.fixture
def view(chromium: object, tmp_path: Path) -> Iterator[Callable[..., Viewer]]:
    """Return a function that opens viewers, and close them after the test."""
    opened: list[Viewer] = []

    def open_viewer(*words: object) -> Viewer:
        opened.append(Viewer(tmp_path))
        opened[-1].open(chromium, *words)
        return opened[-1]

    yield open_viewer
    for viewer in opened:
        viewer.kill()


def compute_changed_share(before: np.ndarray, after: np.ndarray) -> float:
    """Compute the share of clearly different pixels."""
    return float((np.abs(before - after).max(-1) > 40).mean())


def test_a_live_scene_plays_pauses_seeks_and_changes_its_method(view: Callable[..., Viewer]) -> None:
    viewer = view("--scene", ARM_SCENE)
    viewer.wait_until(lambda: viewer.frame > 15)
    viewer.press("play / pause")
    viewer.wait_until(viewer.is_paused)
    paused = viewer.take_screenshot("paused")
    viewer.seek(5)
    viewer.wait_until(lambda: viewer.frame == 5)
    viewer.press("step")
    viewer.wait_until(lambda: viewer.frame == 6)
    viewer.press("to the start")
    viewer.wait_until(lambda: viewer.frame == 0)
    viewer.wait_until(lambda: compute_changed_share(viewer.take_screenshot("sought"), paused) > 0.005)
    assert compute_changed_share(viewer.take_screenshot("sought"), paused) < 0.5, "more than the moving bodies changed"
    viewer.open_tab("Live")
    viewer.choose("method", "random")
    viewer.press("Start")
    viewer.wait_until(lambda: "random" in viewer.text and viewer.frame > 3)
    viewer.choose("speed", "0.25 ×")  # leaves time for a few screenshots
    viewer.open_tab("Live")
    viewer.choose("method", "you")
    viewer.press("Start")
    viewer.page.get_by_text("you drive: no speed").wait_for()
    idle, cost = viewer.take_screenshot("before driving"), viewer.cost
    time.sleep(1)
    assert abs(viewer.cost - cost) < 0.015, "the robot moved without a key"  # the page can be late
    viewer.page.keyboard.press("i")
    viewer.page.keyboard.press("i")
    viewer.wait_until(lambda: compute_changed_share(idle, viewer.take_screenshot("driven")) > 0.003)
    viewer.wait_until(lambda: abs(viewer.cost - cost) > 0.015)


def test_a_custom_layout_is_opened_and_saved_as_html_and_mp4(view: Callable[..., Viewer], tmp_path: Path) -> None:
    custom = tmp_path / "custom.json"
    scenes[SCENE].sample_layout("val", 3).save(custom)
    viewer = view("--method", "random")
    viewer.choose("speed", "0.25 ×")  # for a short video
    viewer.open_tab("Live")
    (tmp_path / "bad.json").write_text('{"format": 1}')
    viewer.upload("Start in a custom layout (JSON)", tmp_path / "bad.json")
    viewer.page.get_by_text("bad.json").first.wait_for()
    viewer.wait_until(lambda: viewer.frame > 8)
    before = viewer.take_screenshot("before")
    viewer.upload("Start in a custom layout (JSON)", custom)
    viewer.wait_until(lambda: "val/3" in viewer.text)
    viewer.press("play / pause")
    viewer.wait_until(viewer.is_paused)
    assert compute_changed_share(viewer.take_screenshot("custom"), before) > 0.02
    viewer.open_tab("Save")
    page = viewer.download("Save as HTML", tmp_path / "custom.html")
    assert b"<html" in page[:2000].lower()
    viewer.download("Save as mp4", tmp_path / "custom.mp4")
    frames, _ = imageio_ffmpeg.count_frames_and_secs(tmp_path / "custom.mp4")
    assert viewer.frame + 10 < frames <= viewer.frame + 13
    viewer.end()


def test_recorded_episodes_are_listed_compared_branched_and_saved(
    view: Callable[..., Viewer], unfinished_run: Path, tmp_path: Path
) -> None:
    viewer = view(unfinished_run)
    viewer.open_tab("Episodes")
    viewer.page.get_by_text("1 damaged or unfinished left out").wait_for()
    viewer.choose("method", "scripted")
    viewer.page.get_by_text("compare with", exact=True).click()
    viewer.page.get_by_label("random", exact=True).check()
    viewer.press("Watch")
    viewer.wait_until(lambda: "scripted" in viewer.text and "random" in viewer.text)
    viewer.wait_until(lambda: viewer.frame > 10)
    viewer.press("play / pause")
    viewer.wait_until(viewer.is_paused)
    viewer.open_tab("Watch")
    for name in ("cost-to-go field", "lidar rays"):
        before = viewer.take_screenshot("side by side")
        viewer.page.get_by_label(name, exact=True).check()
        viewer.wait_until(lambda: compute_changed_share(before, viewer.take_screenshot(name)) > 0.005)  # noqa: B023
    for name in OVERLAY_DESCRIPTIONS:
        viewer.page.get_by_label(name, exact=True).set_checked(name == "plan")
    viewer.choose("continue with", "oracle")
    viewer.press("Continue from this frame")
    viewer.page.get_by_text("rebuilt to within 0 mm").wait_for()
    viewer.wait_until(lambda: "oracle from step" in viewer.text)
    at = int(re.search(r"from step (\d+)", viewer.text)[1])  # type: ignore[index]
    viewer.wait_until(lambda: viewer.frame > at + 1)
    viewer.press("play / pause")
    viewer.take_screenshot("branched")
    viewer.open_tab("Save")
    viewer.page.locator("input[value=episodes]").fill(str(tmp_path / "saved"))
    for label in ("1 scripted", f"2 oracle from step {at}"):
        viewer.choose("replay", label)
        viewer.press("Save as an episode")
        viewer.page.get_by_text("saved:").wait_for()
    saved = tmp_path / "saved" / "test"
    viewer.wait_until(lambda: saved.is_dir() and len(list(Dataset.open(saved).episodes())) == 2)


def test_a_video_is_as_long_as_its_longest_replay(tmp_path: Path) -> None:
    setup = EpisodeSetup(SCENE, scenes[SCENE].sample_layout("test", 0))
    forward = np.tile(np.array((1.0, 0.0), np.float32), (9, 1))
    replays = [Replay("forward", setup, None, forward), Replay("random", setup, scenes[SCENE].behaviours["random"]())]
    for _ in range(9):
        replays[0].advance()
    save_recording(replays, tmp_path / "video.mp4")
    for replay in replays:
        replay.close()
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(tmp_path / "video.mp4")
    assert (frames, seconds) == (20, pytest.approx(2.0, abs=0.1)), "the last frame must stay for a second"
    video = imageio_ffmpeg.read_frames(tmp_path / "video.mp4")
    width, height = next(video)["size"]
    frame_images = [np.frombuffer(image, np.uint8).reshape(height, width, 3).astype(float) for image in video]
    assert frame_images[0].std() > 20
    assert 0 < (frame_images[0].max(-1) < 30).mean() < 0.005, "labels are missing or too large"
    assert compute_changed_share(frame_images[0], frame_images[-1]) > 0.001
