#!/bin/sh
# Package: minari 0.5.4 with pyarrow 26.0.1 and h5py 3.16.0
# Expected: an episode of 40,000 steps reads as it was written in every data format.
# Observed: "arrow" and "parquet" hand out the first 32,767 steps. The last step is lost, so the episode has no end, and nothing is
#           raised; total_steps still says 40,000. "hdf5" is exact.
# Output seen:
#     hdf5: total_steps 40000, read 40000 steps, terminated True
#     arrow: total_steps 40000, read 32767 steps, terminated False
#     parquet: total_steps 40000, read 32767 steps, terminated False
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet minari==0.5.4 gymnasium==1.4.0 numpy==2.4.6 pyarrow==26.0.1 h5py==3.16.0 pillow
MINARI_DATASETS_PATH="$folder/data" "$folder/venv/bin/python" -W ignore - <<'PYTHON_END'
import gymnasium
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer

NUM_STEPS = 40_000
space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
for data_format, expected in (("hdf5", NUM_STEPS), ("arrow", 32_767), ("parquet", 32_767)):
    episode = EpisodeBuffer(
        id=0,
        seed=0,
        options=None,
        observations=[np.array([step], np.float32) for step in range(NUM_STEPS + 1)],
        actions=[np.array([step], np.float32) for step in range(NUM_STEPS)],
        rewards=[0.0] * NUM_STEPS,
        terminations=[False] * (NUM_STEPS - 1) + [True],
        truncations=[False] * NUM_STEPS,
        infos=None,
    )
    dataset = minari.create_dataset_from_buffers(
        f"{data_format}-v0", [episode], observation_space=space, action_space=space, data_format=data_format
    )
    (read,) = dataset.iterate_episodes()
    num_steps, is_terminated = len(read.actions), bool(read.terminations[-1])
    print(f"{data_format}: total_steps {dataset.total_steps}, read {num_steps} steps, terminated {is_terminated}")
    assert dataset.total_steps == NUM_STEPS and num_steps == expected, "the episode is no longer cut"
    assert is_terminated == (expected == NUM_STEPS)
PYTHON_END
