#!/bin/sh
# Package: gymnasium 1.4.0
# Expected: an installed package with an entry point in the group "gymnasium.envs" has its environments registered when gymnasium is
#           imported; the docstring of gymnasium.envs says that it "loads the env plugins for module using the entry point".
# Observed: no entry point is loaded (plugins went with 1.0). The environment exists only after its module was imported, as
#           gymnasium.make("module:id") does.
# Output seen:
#     make("Demo-v0"): NameNotFound
#     make("demo_plugin:Demo-v0"): DemoEnv
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
mkdir "$folder/package"
cat > "$folder/package/pyproject.toml" <<'END'
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "demo-plugin"
version = "1"
[project.entry-points."gymnasium.envs"]
__root__ = "demo_plugin:register_envs"
[tool.setuptools]
py-modules = ["demo_plugin"]
END
cat > "$folder/package/demo_plugin.py" <<'END'
import gymnasium


class DemoEnv(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)


def register_envs():
    if "Demo-v0" not in gymnasium.registry:
        gymnasium.register("Demo-v0", DemoEnv)


register_envs()
END
"$folder/venv/bin/pip" install --quiet gymnasium==1.4.0 numpy==2.4.6 "$folder/package"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON_END'
import importlib.metadata

import gymnasium

assert [point.name for point in importlib.metadata.entry_points(group="gymnasium.envs")] == ["__root__"], "it is installed"
results = []
for name in ("Demo-v0", "demo_plugin:Demo-v0"):
    try:
        results.append(type(gymnasium.make(name).unwrapped).__name__)
    except gymnasium.error.Error as error:
        results.append(type(error).__name__)
    print(f'make("{name}"): {results[-1]}')
assert results == ["NameNotFound", "DemoEnv"], "the entry point is loaded now"
PYTHON_END
