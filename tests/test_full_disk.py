"""Every writer on a full disk: a small file system in memory, in a mount namespace of its own.

The test starts this file as a script in the namespace.
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

SIZE_KB = 200
CAN_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0
)


def make_writers() -> dict[str, tuple[str, Callable[[Path], object]]]:
    """Name of a file, and a function that writes it into a directory, by name of the writer."""
    import numpy as np
    import torch
    from PIL import Image

    from experiments.report.figures.topdown import save_layout_image
    from sim.data.episode import Episode, EpisodeSource
    from sim.data.importers.ros_map import OccupancyMap
    from sim.data.store import write_shard
    from sim.scenes.scene import scenes
    from sim.utils.files import write_atomic, write_json, write_text
    from sim.variation import Variation
    from worldmodels.model import models
    from worldmodels.training.checkpoint import save_checkpoint

    layout = scenes["logistics/tote-push"].sample_layout("test", 0)
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    rows = 3000
    values = np.random.default_rng(1).normal(size=(rows, 2, 13))
    episode = Episode(
        layout=layout,
        source=EpisodeSource("logistics/tote-push", 0),
        behaviour="random",
        variation=Variation(),
        half_extents=np.ones((2, 3)),
        pose=values[..., :7],
        twist=values[..., 7:],
        action=np.zeros((rows, 2)),
        cost=np.zeros(rows),
        touching=np.zeros(rows, bool),
        static_force_n=np.zeros(rows),
        success=True,
    )
    torch.manual_seed(0)
    model = models["mlp"](hidden_size=128)
    return {
        "checkpoint": ("best.safetensors", lambda path: save_checkpoint(model, path, "best", {})),
        "report": ("report.html", lambda path: write_text(path / "report.html", "x" * 300_000)),
        "recording": ("film.mp4", lambda path: write_atomic(path / "film.mp4", lambda to: to.write_bytes(bytes(300_000)))),
        "layout image": ("hall.png", lambda path: save_layout_image(layout, path / "hall.png")),
        "camera image": (
            "camera.png",
            lambda path: write_atomic(path / "camera.png", partial(Image.fromarray(noise).save, format="PNG")),
        ),
        "dataset": ("part.parquet", lambda path: write_shard(path / "part.parquet", [episode], 0, 2)),
        "map": ("map.pgm", lambda path: OccupancyMap.from_layout(layout, 0.01).save(path / "map.yaml")),
        "layout": ("layout.json", lambda path: write_json(path / "layout.json", ["x" * 300_000])),
    }


def write_on_full_disk(mount_point: Path) -> None:
    """Print each writer's error, and check that only the old file remains."""
    from sim.utils.errors import GroundError

    for name, (file_name, write) in make_writers().items():
        directory = mount_point / "out"
        directory.mkdir()
        (directory / file_name).write_text("before")
        with contextlib.suppress(OSError):  # leave no space
            (mount_point / "filler").write_bytes(bytes(1024 * SIZE_KB))
        message = ""
        try:
            write(directory)
        except GroundError as error:
            message = str(error)
        assert "no space left to write" in message, name
        assert "\n" not in message
        assert (directory / file_name).read_text() == "before"
        assert [path.name for path in directory.iterdir()] == [file_name], "a temporary file is left"
        print("refused", name)
        (mount_point / "filler").unlink()
        shutil.rmtree(directory)


@pytest.mark.skipif(not CAN_MOUNT, reason="no rights to mount a file system")
def test_every_writer_reports_a_full_disk_and_keeps_the_old_file(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size={SIZE_KB}k tmpfs {tmp_path}"
    command = f"{mount} && exec {sys.executable} {__file__} {tmp_path}"
    result = subprocess.run(["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"refused {name}" for name in make_writers()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    write_on_full_disk(parser.parse_args().directory)
