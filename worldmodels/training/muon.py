"""Muon: orthogonalised momentum for matrices between hidden layers, AdamW for all other parameters.

torch.optim.Muon computes in bfloat16, which on a CPU costs as much as the rest of an update.

Sources: Jordan et al. 2024, "Muon: an optimizer for hidden layers"; Liu et al. 2025, "Muon is
scalable for LLM training", for steps of AdamW's size, so that one learning rate serves both.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration
NUM_ITERATIONS = 5
MIN_SIDE = 12  # rows and columns; thinner matrices read features or write outputs
ADAMW_SCALE = 0.2  # root mean square of AdamW's steps, over the learning rate


class Muon(torch.optim.Optimizer):
    """Muon for matrices of at least MIN_SIDE rows and columns, AdamW for the rest."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-4,
    ) -> None:
        """Create an optimizer.

        Args:
            parameters: parameters, or batches (..., N, M) of matrices.
            lr: learning rate.
            momentum: of Muon.
            betas: decay of AdamW's first and second moments.
            weight_decay: of matrices, relative to the learning rate.
        """
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update the parameters by their gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.ndim > 1:  # scalars and vectors do not decay
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                is_matrix = parameter.ndim > 1 and min(parameter.shape[-2:]) >= MIN_SIDE
                update = self._compute_muon_update if is_matrix else self._compute_adam_update
                parameter.add_(update(self.state[parameter], parameter.grad, group), alpha=-group["lr"])

    @staticmethod
    def _compute_muon_update(state: dict[str, Tensor], gradient: Tensor, group: dict[str, Any]) -> Tensor:
        average = state.setdefault("average", torch.zeros_like(gradient))
        average.lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(average, group["momentum"])  # Nesterov
        return orthogonalise(ahead) * (ADAMW_SCALE * max(gradient.shape[-2:]) ** 0.5)

    @staticmethod
    def _compute_adam_update(state: dict[str, Tensor], gradient: Tensor, group: dict[str, Any]) -> Tensor:
        first, second = group["betas"]
        average = state.setdefault("average", torch.zeros_like(gradient))
        square = state.setdefault("square", torch.zeros_like(gradient))
        count = state.setdefault("count", torch.zeros(()))
        count += 1
        average.lerp_(gradient, 1 - first)
        square.lerp_(gradient.square(), 1 - second)
        return average / (1 - first**count) / ((square / (1 - second**count)).sqrt() + 1e-8)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Orthogonalise matrices: keep their singular vectors, and move all singular values near one.

    Args:
        matrices: (..., N, M).

    Returns:
        (..., N, M), after NUM_ITERATIONS of the Newton-Schulz iteration.
    """
    a, b, c = COEFFICIENTS
    wide = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    x = wide / (torch.linalg.matrix_norm(wide, keepdim=True) + 1e-7)
    for _ in range(NUM_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if matrices.shape[-2] > matrices.shape[-1] else x
