import torch
from hypothesis import given
from hypothesis import strategies as st

from worldmodels.training.muon import MIN_SIDE, Muon, orthogonalise


@given(rows=st.integers(2, 40), columns=st.integers(2, 40), scale=st.floats(1e-4, 1e4), seed=st.integers(0, 99))
def test_orthogonalise_keeps_singular_vectors_and_sets_singular_values_near_one(
    rows: int, columns: int, scale: float, seed: int
) -> None:
    matrix = scale * torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(seed))
    left, singular_values, right = torch.linalg.svd(matrix, full_matrices=False)
    is_large = singular_values > 0.1 * singular_values[:, :1]  # five iterations do not raise the smallest values
    values = torch.einsum("bik,bij,bkj->bk", left, orthogonalise(matrix), right)[is_large]
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_matrices_and_vectors_reach_the_least_squares_solution() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, weight, bias = (
        torch.randn(*shape, generator=generator) for shape in ((200, MIN_SIDE), (MIN_SIDE, MIN_SIDE), (MIN_SIDE,))
    )
    layer = torch.nn.Linear(MIN_SIDE, MIN_SIDE)
    optimizer = Muon(layer.parameters(), lr=0.1, weight_decay=0)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 400)
        optimizer.zero_grad()
        (layer(inputs) - inputs @ weight.T - bias).square().mean().backward()
        optimizer.step()
    assert (layer.weight - weight).abs().max() < 0.01
    assert (layer.bias - bias).abs().max() < 0.01
