"""Loss and gradients of a batch, on a GPU as one CUDA graph.

On a GPU, an update is dominated by the launch of thousands of small operations.
"""

import logging
from typing import Any

import torch
from torch import Tensor

from worldmodels.model import LearnedModel
from worldmodels.training.windows import Batch, list_tensors, map_tensors

LOG = logging.getLogger(__name__)
WARMUP_UPDATES = 3  # updates before a graph is recorded, in which libraries choose their algorithms


class GradientComputer:
    """Computes the loss of a batch, and its gradients in the parameters; None where there is none.

    A graph records memory addresses: a later batch of the same shapes is copied to the recorded
    one. Batches that cannot be recorded run eagerly.
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
                LOG.warning("updates run eagerly on the GPU, without a CUDA graph (%s)", str(error).splitlines()[0])
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
        """Compute on a separate stream, as recording requires."""
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
