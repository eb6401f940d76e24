"""Search methods on a problem whose answer is known: a linear system with a quadratic cost."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import LinearQuadratic
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from agents.planning.search import Proposal, SearchConfig, SearchMethod, make_spline_basis, searches
from agents.planning.search.beam import BEAM_WIDTH
from agents.planning.search.icem import ImprovedCrossEntropy, make_colouring_matrix
from sim.utils.errors import GroundError, UnknownName

HORIZON = 12
CONFIG = SearchConfig(samples=256, iterations=20, horizon=HORIZON)
FACTORS = {"random": 3.5}  # multiples of the optimal cost; other methods must reach 1.3


def search(name: str, problem: LinearQuadratic, seed: int = 0, config: SearchConfig = CONFIG) -> tuple[Tensor, float]:
    """Search and return the best sequence and its cost."""
    method, generator = searches[name](config), torch.Generator().manual_seed(seed)
    proposal, best = method.make_initial_proposal(2), (torch.zeros(0), np.inf)
    for _ in range(config.iterations):
        candidates = method.propose(proposal, generator).requires_grad_(method.needs_gradient)
        costs = problem.compute_costs(candidates)
        index = int(costs.argmin())
        if costs[index] < best[1]:
            best = candidates[index].detach(), float(costs[index].detach())
        proposal = method.update(proposal, candidates, costs)
    return best


@pytest.mark.parametrize("start", [(0.25, -0.2, 0.0, 0.1), (-0.3, 0.1, 0.1, 0.0)])
@pytest.mark.parametrize("name", searches)
def test_the_plan_is_nearly_optimal(name: str, start: tuple[float, ...]) -> None:
    problem = LinearQuadratic(start, HORIZON)
    optimal, zero_action = (
        float(problem.compute_costs(problem.compute_solution()[None])),
        float(problem.compute_costs(torch.zeros(1, HORIZON, 2))),
    )
    assert problem.compute_solution().abs().max() < 1  # the limits do not bind
    for seed in range(3):
        _, cost = search(name, problem, seed)
        assert optimal * (1 - 1e-5) <= cost <= FACTORS.get(name, 1.3) * optimal
        assert cost <= zero_action
        assert cost < 0.6 * zero_action or name in FACTORS


@pytest.mark.parametrize("name", searches)
def test_the_same_generator_gives_the_same_plan(name: str) -> None:
    problem = LinearQuadratic((0.25, -0.2, 0, 0), HORIZON)
    config = SearchConfig(samples=32, iterations=3, horizon=HORIZON)
    (first, _), (second, _), (different, _) = (search(name, problem, seed, config) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, different) or name == "gradient"  # its best initial candidate is not sampled


@given(
    st.sampled_from(sorted(searches)), st.integers(2, 40), st.integers(1, 15), st.floats(0.01, 10), st.floats(-1, 1),
    st.integers(0, 99),
)  # fmt: skip
def test_candidates_are_within_limits_and_start_with_the_mean(
    name: str, samples: int, horizon: int, std: float, mean: float, seed: int
) -> None:
    config = SearchConfig(samples=samples, iterations=3, horizon=horizon, std=std)
    method, counts = searches[name](config), list[int]()
    proposal, generator = method.make_initial_proposal(2), torch.Generator().manual_seed(seed)
    assert torch.equal(proposal.mean, torch.zeros(horizon, 2))
    assert torch.equal(proposal.std, torch.full((horizon, 2), std))
    proposal = Proposal(torch.full((horizon, 2), mean), proposal.std)
    for _ in range(3):
        candidates = method.propose(proposal, generator)
        counts.append(len(candidates))
        assert candidates.shape[1:] == (horizon, 2)
        assert candidates.abs().max() <= 1
        assert torch.equal(candidates[0], proposal.mean)
        costs = torch.rand(len(candidates), generator=generator)
        proposal = method.update(proposal, candidates, costs)
        assert torch.isfinite(proposal.mean).all()
        assert torch.isfinite(proposal.std).all()
        assert (proposal.std > 0).all()
        assert proposal.mean.abs().max() <= 1
        assert torch.equal(method.make_warm_start(proposal).mean, proposal.shift().mean)
    assert sum(counts) == 3 * samples
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 1 or isinstance(method, ImprovedCrossEntropy)
    assert len(method.propose(method.make_warm_start(proposal), generator)) == counts[0]


@pytest.mark.parametrize("cost", [0.0, 3.5, 1e6])
@pytest.mark.parametrize("name", searches)
def test_equal_costs_give_a_finite_proposal(name: str, cost: float) -> None:
    method: SearchMethod = searches[name](SearchConfig(samples=16, horizon=4))
    candidates = method.propose(method.make_initial_proposal(2), torch.Generator().manual_seed(0))
    proposal = method.update(method.make_initial_proposal(2), candidates, torch.full((len(candidates),), cost))
    assert torch.isfinite(proposal.mean).all()
    assert torch.isfinite(proposal.std).all()


@pytest.mark.parametrize("name", searches)
def test_a_constant_added_to_all_costs_does_not_change_the_update(name: str) -> None:
    method = searches[name](SearchConfig(samples=64, horizon=6))
    candidates = method.propose(method.make_initial_proposal(2), torch.Generator().manual_seed(0))
    costs = torch.rand(len(candidates), generator=torch.Generator().manual_seed(1))
    first, second = (method.update(method.make_initial_proposal(2), candidates, costs + shift) for shift in (0, 100))
    torch.testing.assert_close(first.mean, second.mean, atol=1e-3, rtol=1e-3)


def test_shift_moves_a_plan_by_one_step() -> None:
    plan = torch.arange(8.0).reshape(4, 2)
    shifted = Proposal(plan, 2 * plan).shift()
    assert shifted.mean.tolist() == [[2, 3], [4, 5], [6, 7], [6, 7]]
    assert torch.equal(shifted.std, 2 * shifted.mean)


@given(st.integers(1, 40), st.integers(1, 8))
def test_a_spline_basis_interpolates(horizon: int, knots: int) -> None:
    basis = make_spline_basis(horizon, knots)
    assert basis.shape == (horizon, knots)
    assert basis.min() >= 0
    if horizon >= knots > 1:
        torch.testing.assert_close(basis.sum(1), torch.ones(horizon))
        line = basis @ torch.linspace(0, 1, knots)
        torch.testing.assert_close(line, torch.linspace(0, 1, horizon), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "change", [{"samples": 1}, {"iterations": 0}, {"horizon": -1}, {"std": 0.0}, {"std": 11.0}, {"std": float("nan")}]
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(GroundError, match=next(iter(change))):
        SearchConfig(**change)


def test_an_unknown_method_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownName, match="did you mean 'mppi'"):
        searches["mpi"]


@given(st.integers(2, 60), st.floats(0, 3))
def test_coloured_noise_has_unit_variance_and_is_smoother_for_larger_exponents(horizon: int, exponent: float) -> None:
    matrix = make_colouring_matrix(horizon, exponent)
    torch.testing.assert_close(matrix.square().sum(1), torch.ones(horizon))
    steps = (matrix[1:] - matrix[:-1]).square().sum(1).mean()
    smoother = make_colouring_matrix(horizon, exponent + 1)
    assert (smoother[1:] - smoother[:-1]).square().sum(1).mean() <= steps + 1e-5


def test_elites_are_reused_in_the_next_step() -> None:
    method = searches["icem"](SearchConfig(samples=40, horizon=5))
    generator = torch.Generator().manual_seed(0)
    candidates = method.propose(method.make_initial_proposal(2), generator)
    costs = torch.rand(len(candidates), generator=generator)
    proposal = method.update(method.make_initial_proposal(2), candidates, costs)
    assert torch.equal(proposal.elites[0], candidates[costs.argmin()])
    repeated = method.propose(proposal, generator)
    assert torch.equal(repeated[1], candidates[costs.argmin()])
    shifted = method.propose(method.make_warm_start(proposal), generator)
    assert torch.equal(shifted[1, :-1], candidates[costs.argmin()][1:])


@given(st.integers(2, 40), st.integers(0, 99))
def test_the_prior_plan_is_a_candidate_with_noisy_copies(samples: int, seed: int) -> None:
    problem = LinearQuadratic((0.25, -0.2, 0, 0), HORIZON)
    method = searches["mixed"](SearchConfig(samples=samples, horizon=HORIZON))
    generator = torch.Generator().manual_seed(seed)
    proposal = replace(method.make_initial_proposal(2), prior_plan=problem.compute_solution())
    candidates = method.propose(proposal, generator)
    assert torch.equal(candidates[0], proposal.mean)
    torch.testing.assert_close(candidates[1], problem.compute_solution())
    assert int(problem.compute_costs(candidates).argmin()) == 1  # no sample is better than the optimum
    if samples >= 12:
        near, far = (part - problem.compute_solution() for part in (candidates[2 : samples // 4], candidates[1 + samples // 4 :]))
        assert near.square().mean() < far.square().mean()
    updated = method.update(proposal, candidates, problem.compute_costs(candidates))
    assert updated.prior_plan is proposal.prior_plan
    assert method.make_warm_start(updated).prior_plan is None  # the next decision queries the prior policy again


def test_a_beam_finds_the_best_pair_of_proposed_actions() -> None:
    method = searches["beam"](SearchConfig(samples=60, iterations=2, horizon=2))
    first = torch.linspace(-1, 1, 21)[:, None]
    proposal = replace(method.make_initial_proposal(1), actions=first[None])
    generator = torch.Generator()
    candidates = method.propose(proposal, generator)
    assert torch.equal(candidates, first[:, None])
    proposal = method.update(proposal, candidates, (candidates[:, 0, 0] - 0.32).abs())
    assert proposal.elite_indices is not None
    assert torch.equal(candidates[proposal.elite_indices], proposal.elites)
    assert len(proposal.elites) == BEAM_WIDTH
    assert proposal.elites[0, 0, 0] == pytest.approx(0.3)
    second = torch.linspace(-1, 1, 10).reshape(1, 10, 1).expand(BEAM_WIDTH, 10, 1)
    pairs = method.propose(replace(proposal, actions=second), generator)
    assert pairs.shape == (BEAM_WIDTH * 10, 2, 1)
    # the second action decides: only 0.4 then 1 solves the problem
    costs = (pairs - torch.tensor([[0.4], [1.0]])).abs().sum((1, 2))
    best = method.update(replace(proposal, actions=second), pairs, costs).elites[0]
    torch.testing.assert_close(best, torch.tensor([[0.4], [1.0]]))
    assert method.make_warm_start(proposal).actions is None
