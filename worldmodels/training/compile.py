"""Optional compilation of a model's step, cached on disk; where it fails, the step runs eagerly.

In the small batches of a planner, PyTorch spends more time between operations than in them, and
compiled code has few operations. The first compilation on a machine takes about half a minute.
Later processes load it from the cache within seconds.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

LOG = logging.getLogger(__name__)
# Compilations of a function, one for each number of bodies. Beyond the limit, by default eight,
# PyTorch runs the function eagerly without a warning.
MAX_PROGRAMS = 64

F = TypeVar("F", bound=Callable[..., Any])


class CompiledFunction(Generic[F]):
    """A function of tensors, compiled at its first call."""

    def __init__(self, function: F) -> None:
        self._function = function
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            self._compiled = self._compile(arguments)
        return self._compiled(*arguments)

    def _compile(self, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "training-ground" / "inductor"
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
        # Helper processes would outlive Ctrl-C.
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        # Code must not depend on earlier compilations.
        torch._dynamo.config.automatic_dynamic_shapes = False
        torch._dynamo.config.recompile_limit = MAX_PROGRAMS
        fast = torch.compile(self._function)
        try:
            fast(*arguments)
        except Exception as error:  # of any type, as compilers may be missing or broken
            LOG.warning("the model's step was not compiled and runs eagerly (%s)", str(error).splitlines()[0])
            return self._function
        return fast
