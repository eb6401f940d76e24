"""Loss and gradients of a batch, on a GPU as one CUDA graph: there, starting thousands of small operations is what takes long."""

import logging
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from worldmodels.model import LearnedModel
from worldmodels.planar.state import MOTION, PlanarState
from worldmodels.training.windows import Batch

LOG = logging.getLogger(__name__)
WARM = 3  # updates before a graph is recorded, in which libraries choose what they do


class Gradients:
    """Gives the loss of a batch and leaves its gradients in the model's parameters, None where it has none.

    What is recorded are addresses: a batch of a size seen before is copied to where the recorded one lay. Whatever cannot be
    recorded runs as it is.
    """

    def __init__(self, model: LearnedModel) -> None:
        self._model = model
        self._recorded: dict[Any, _Recorded] = {}
        self._seen: dict[Any, int] = {}
        self._records = next(model.parameters()).is_cuda

    def __call__(self, batch: Batch) -> Tensor:
        if not self._records:
            return self._now(batch)
        key = batch.state.around.kinds, *(values.shape for values in _arrays(batch))
        if key not in self._recorded:
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._seen[key] <= WARM:
                return self._beside(batch)
            try:
                self._recorded[key] = _Recorded(self, batch)
            except RuntimeError as error:
                LOG.warning(
                    "updates are not recorded on the GPU and run one operation after another (%s)", str(error).splitlines()[0]
                )
                self._records = False
                torch.cuda.synchronize()
                return self._now(batch)
        return self._recorded[key](batch)

    def _now(self, batch: Batch) -> Tensor:
        self._model.zero_grad(set_to_none=True)
        loss = self._model.loss(batch.state, batch.actions, batch.targets)
        loss.backward()
        return loss.detach()

    def _beside(self, batch: Batch) -> Tensor:
        """On a stream of its own, as recording asks for."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = self._now(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return loss


class _Recorded:
    def __init__(self, gradients: Gradients, batch: Batch) -> None:
        self._batch = _copied(batch)
        self._graph = torch.cuda.CUDAGraph()
        parameters = list(gradients._model.parameters())
        gradients._model.zero_grad(set_to_none=True)
        with torch.cuda.graph(self._graph):
            self._loss = gradients._now(self._batch)
        self._found = [(parameter, parameter.grad) for parameter in parameters]

    def __call__(self, batch: Batch) -> Tensor:
        torch._foreach_copy_(_arrays(self._batch), _arrays(batch))
        self._graph.replay()
        for parameter, gradient in self._found:
            parameter.grad = gradient
        return self._loss.clone()


def _arrays(batch: Batch) -> list[Tensor]:
    states = (batch.state, *batch.targets)
    return [*batch.state.around.arrays().values(), batch.actions, *(getattr(one, name) for one in states for name in MOTION)]


def _copied(batch: Batch) -> Batch:
    around = replace(batch.state.around, **{name: values.clone() for name, values in batch.state.around.arrays().items()})

    def copied(state: PlanarState) -> PlanarState:
        return PlanarState(**{name: getattr(state, name).clone() for name in MOTION}, around=around)

    return Batch(copied(batch.state), batch.actions.clone(), [copied(state) for state in batch.targets])
