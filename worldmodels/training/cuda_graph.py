"""Loss and gradients of a batch, on a GPU as one CUDA graph: there, starting thousands of small operations is what takes long."""

import logging
from typing import Any

import torch
from torch import Tensor

from worldmodels.model import LearnedModel
from worldmodels.training.windows import Batch, list_tensors, map_tensors

LOG = logging.getLogger(__name__)
WARMUP_UPDATES = 3  # updates before a graph is recorded, in which libraries choose what they do


class GradientComputer:
    """Gives the loss of a batch and leaves its gradients in the model's parameters, None where it has none.

    What is recorded are addresses: a batch of a size seen before is copied to where the recorded one lay. Whatever cannot be
    recorded runs as it is.
    """

    def __init__(self, model: LearnedModel) -> None:
        self._model = model
        self._graphs: dict[Any, _CudaGraph] = {}
        self._counts: dict[Any, int] = {}
        self._can_record = next(model.parameters()).is_cuda

    def __call__(self, batch: Batch) -> Tensor:
        if not self._can_record:
            return self._compute(batch)
        key = batch.graph_key, *(values.shape for values in list_tensors(batch))
        if key not in self._graphs:
            self._counts[key] = self._counts.get(key, 0) + 1
            if self._counts[key] <= WARMUP_UPDATES:
                return self._compute_on_side_stream(batch)
            try:
                self._graphs[key] = _CudaGraph(self, batch)
            except RuntimeError as error:
                LOG.warning(
                    "updates are not recorded on the GPU and run one operation after another (%s)", str(error).splitlines()[0]
                )
                self._can_record = False
                torch.cuda.synchronize()
                return self._compute(batch)
        return self._graphs[key](batch)

    def _compute(self, batch: Batch) -> Tensor:
        self._model.zero_grad(set_to_none=True)
        loss = self._model.compute_loss(batch)
        loss.backward()
        return loss.detach()

    def _compute_on_side_stream(self, batch: Batch) -> Tensor:
        """On a stream of its own, as recording asks for."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = self._compute(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return loss


class _CudaGraph:
    def __init__(self, gradients: GradientComputer, batch: Batch) -> None:
        self._batch = map_tensors(batch, Tensor.clone)
        self._graph = torch.cuda.CUDAGraph()
        parameters = list(gradients._model.parameters())
        gradients._model.zero_grad(set_to_none=True)
        with torch.cuda.graph(self._graph):
            self._loss = gradients._compute(self._batch)
        self._gradients = [(parameter, parameter.grad) for parameter in parameters]

    def __call__(self, batch: Batch) -> Tensor:
        torch._foreach_copy_(list_tensors(self._batch), list_tensors(batch))
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return self._loss.clone()
