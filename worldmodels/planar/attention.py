"""What traffic is up to, which nobody sees: whims that are drawn, and what is believed of who sees the robot.

Whether somebody sees the robot shows in what they do when it is in their way, and lasts. So a belief is kept from one
observation to the next: the last step is imagined with everybody seeing it and with nobody, and what came tells which is likelier
(a Bayes filter of two states that change now and then). The robot's action of that step is not known here and taken as none,
which changes a belief by at most 0.024 (in two halls).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sim.bodies import DT_S
from worldmodels.planar.state import PlanarState

WHIMS, TURNOVER_S = 4, 4.0  # numbers of a whim, each a wave of this period; and as many that stay, but one
SEEING = [0, 1, 2]  # numbers of it that say who sees the robot now and later, and when later is [s]
WHIM = len(SEEING) - 1 + 3 * WHIMS
SURELY = 9.0  # standard deviations: a whim that decides
TRIED = 8  # whims with which the last step is imagined
OFF, MOST = 0.04, 1.5  # errors of velocities one step on, in units/s, and how much one step may say at most


@dataclass(frozen=True)
class Belief:
    """Of one observation: how likely each mover is to see the robot, and would be of whom nothing is known."""

    rows: tuple[int, ...]  # of the observation, that the movers are
    state: PlanarState
    sees: Tensor  # (1, M)
    usually: Tensor  # (1, M)


def drawn(particles: int, movers: int) -> Tensor:
    """(P, M, WHIM) always the same whims; the numbers that say who sees the robot are spread evenly over what is likely."""
    generator = torch.Generator().manual_seed(0)
    whims = torch.randn(particles, movers, WHIM, generator=generator, device="cpu")
    ranks = torch.rand(particles, movers, 3, generator=generator, device="cpu").argsort(0)
    even = (ranks + 0.5) / particles
    whims[..., SEEING] = torch.cat([torch.special.ndtri(even[..., :2]), -TURNOVER_S * torch.log(even[..., 2:])], -1)
    return whims


def decided(whims: Tensor, sees: Tensor) -> Tensor:
    """The same whims (..., WHIM) of those who see the robot where `sees` (...), of those who do not elsewhere, all the time."""
    now = torch.where(sees, -SURELY, SURELY)
    seeing = torch.stack([now, torch.zeros_like(now), torch.full_like(now, torch.inf)], -1)
    return torch.cat([seeing.to(whims).expand(*whims.shape[:-1], -1), whims[..., len(SEEING) :]], -1)


def seers(likely: Tensor, whim: Tensor, traffic: Tensor, steps: int) -> Tensor:
    """(H, B, M) at each step 1 for who sees the robot, 0 for who does not: traffic whose number is beyond how `likely` it
    is to now. After a while another number takes its place, of which nothing is known but what is usual: `likely` (B, M, 2)."""
    first, second, until_s = whim[..., : len(SEEING)].unbind(-1)
    time_s = DT_S * torch.arange(steps, device=whim.device)[:, None, None]
    first, second = (torch.special.ndtr(torch.stack([first, second])) >= likely.movedim(-1, 0)).unbind()
    return 1 - traffic * torch.where(time_s < until_s, first, second)


def whims_over(whim: Tensor, steps: int) -> Tensor:
    """(B, H, M, 3 * WHIMS) at each step, of whims (B, M, WHIM): waves of random phases are normal at all times. What stays comes
    with its sign: who goes left or right does one or the other, and nothing between. Who sees the robot is left out: who does not
    goes where it would without it, and what one does tells which only where that differs."""
    stays, sine, cosine = whim[:, None, :, len(SEEING) - 1 :].split(WHIMS, -1)
    time = (2 * torch.pi / TURNOVER_S * DT_S) * torch.arange(steps, device=whim.device)[:, None, None]
    stays = F.pad(stays[..., 1:], (1, 0))
    stays = torch.cat([stays, stays.sign()], -1)
    return torch.cat([stays.expand(-1, steps, -1, -1), sine * time.sin() + cosine * time.cos()], -1)


def believed(
    before: Belief | None, rows: tuple[int, ...], state: PlanarState, sight: Tensor, imagine: Callable[[PlanarState], PlanarState]
) -> Belief:
    """What to believe of a state, which `imagine` leads to from the one before: at first `sight` (1, M), what it looks like by
    itself; of those who were there before, what fits how they have moved since."""
    there = {}
    if before is not None:  # rows also fill up with nobody
        there = {row: k for k, row in enumerate(before.rows) if before.state.around.present[0, k]}
    known = [(k, there[row]) for k, row in enumerate(rows) if row in there]
    if before is None or not known:
        return Belief(rows, state, sight, sight)
    now, then = (torch.tensor(places) for places in zip(*known, strict=True))
    whims = drawn(TRIED, len(before.rows)).to(state.spin).repeat(2, 1, 1)
    flags = (torch.arange(2 * TRIED) < TRIED)[:, None].expand(-1, len(before.rows))
    tried = imagine(replace(before.state.expand(2 * TRIED), whim=decided(whims, flags)))
    off = (tried.velocity[:, then] - state.velocity[:, now]).abs() / state.around.unit[:, None]
    better = (off.square().unflatten(0, (2, TRIED)).diff(dim=0)[0].mean(0) / (2 * OFF**2)).clamp(-MOST, MOST)
    saw = before.sees[:, then]
    changed = DT_S / TURNOVER_S
    saw = torch.sigmoid(torch.logit(saw, 1e-3) + better)
    sees = sight.clone()
    sees[:, now] = saw + changed * (sight[:, now] - saw)
    return Belief(rows, state, sees, sight)
