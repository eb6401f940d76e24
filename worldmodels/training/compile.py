"""Compilation of a model's step: optional, kept on disk between processes, and left aside where it fails.

On a planner's small batches torch spends more time between operations than in them; compiled code has few. The first
compilation on a machine takes about half a minute, later processes find it in the cache within seconds.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

LOG = logging.getLogger(__name__)
MAX_PROGRAMS = 64  # of one function, one for each number of bodies; after torch's own eight it would run as it is, unsaid

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
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no helper processes that would outlive a Ctrl-C
        torch._dynamo.config.automatic_dynamic_shapes = False  # what was compiled before must not change what is made now
        torch._dynamo.config.recompile_limit = MAX_PROGRAMS
        fast = torch.compile(self._function)
        try:
            fast(*arguments)
        except Exception as error:  # whatever a missing or broken compiler may raise
            LOG.warning("the model's step was not compiled and runs as it is (%s)", str(error).splitlines()[0])
            return self._function
        return fast
