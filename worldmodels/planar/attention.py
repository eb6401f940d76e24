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

from sim.bodies import CONTROL_DT_S
from worldmodels.planar.state import PlanarState

NUM_WAVES, CORRELATION_S = 4, 4.0  # numbers of a whim, each a wave of this period; and as many that stay, but one
ATTENTION_COLUMNS = [0, 1, 2]  # numbers of it that say who sees the robot now and later, and when later is [s]
NOISE_SIZE = len(ATTENTION_COLUMNS) - 1 + 3 * NUM_WAVES
CERTAIN = 9.0  # standard deviations: a whim that decides
NUM_BELIEF_SAMPLES = 8  # whims with which the last step is imagined
VELOCITY_ERROR, MAX_EVIDENCE = 0.04, 1.5  # errors of velocities one step on, in units/s, and how much one step may say at most


@dataclass(frozen=True)
class AttentionBelief:
    """Of one observation: how likely each mover is to see the robot, and would be of whom nothing is known."""

    rows: tuple[int, ...]  # of the observation, that the movers are
    state: PlanarState
    attention: Tensor  # (1, M)
    prior: Tensor  # (1, M)


def sample_noise(particles: int, movers: int) -> Tensor:
    """(P, M, WHIM) always the same whims; the numbers that say who sees the robot are spread evenly over what is likely."""
    generator = torch.Generator().manual_seed(0)
    whims = torch.randn(particles, movers, NOISE_SIZE, generator=generator, device="cpu")
    ranks = torch.rand(particles, movers, 3, generator=generator, device="cpu").argsort(0)
    even = (ranks + 0.5) / particles
    whims[..., ATTENTION_COLUMNS] = torch.cat([torch.special.ndtri(even[..., :2]), -CORRELATION_S * torch.log(even[..., 2:])], -1)
    return whims


def fix_attention(noise: Tensor, is_attentive: Tensor) -> Tensor:
    """The same whims (..., WHIM) of those who see the robot where `sees` (...), of those who do not elsewhere, all the time."""
    now = torch.where(is_attentive, -CERTAIN, CERTAIN)
    seeing = torch.stack([now, torch.zeros_like(now), torch.full_like(now, torch.inf)], -1)
    return torch.cat([seeing.to(noise).expand(*noise.shape[:-1], -1), noise[..., len(ATTENTION_COLUMNS) :]], -1)


def sample_attention(probability: Tensor, noise: Tensor, is_agent: Tensor, steps: int) -> Tensor:
    """(H, B, M) at each step 1 for who sees the robot, 0 for who does not: traffic whose number is beyond how `likely` it
    is to now. After a while another number takes its place, of which nothing is known but what is usual: `likely` (B, M, 2)."""
    first, second, until_s = noise[..., : len(ATTENTION_COLUMNS)].unbind(-1)
    time_s = CONTROL_DT_S * torch.arange(steps, device=noise.device)[:, None, None]
    first, second = (torch.special.ndtr(torch.stack([first, second])) >= probability.movedim(-1, 0)).unbind()
    return 1 - is_agent * torch.where(time_s < until_s, first, second)


def unroll_noise(noise: Tensor, steps: int) -> Tensor:
    """(B, H, M, 3 * WHIMS) at each step, of whims (B, M, WHIM): waves of random phases are normal at all times. What stays comes
    with its sign: who goes left or right does one or the other, and nothing between. Who sees the robot is left out: who does not
    goes where it would without it, and what one does tells which only where that differs."""
    stays, sine, cosine = noise[:, None, :, len(ATTENTION_COLUMNS) - 1 :].split(NUM_WAVES, -1)
    time = (2 * torch.pi / CORRELATION_S * CONTROL_DT_S) * torch.arange(steps, device=noise.device)[:, None, None]
    stays = F.pad(stays[..., 1:], (1, 0))
    stays = torch.cat([stays, stays.sign()], -1)
    return torch.cat([stays.expand(-1, steps, -1, -1), sine * time.sin() + cosine * time.cos()], -1)


def update_belief(
    previous: AttentionBelief | None,
    rows: tuple[int, ...],
    state: PlanarState,
    prior: Tensor,
    imagine: Callable[[PlanarState], PlanarState],
) -> AttentionBelief:
    """What to believe of a state, which `imagine` leads to from the one before: at first `sight` (1, M), what it looks like by
    itself; of those who were there before, what fits how they have moved since."""
    there = {}
    if previous is not None:  # rows also fill up with nobody
        there = {row: k for k, row in enumerate(previous.rows) if previous.state.context.present[0, k]}
    known = [(k, there[row]) for k, row in enumerate(rows) if row in there]
    if previous is None or not known:
        return AttentionBelief(rows, state, prior, prior)
    now, then = (torch.tensor(places) for places in zip(*known, strict=True))
    whims = sample_noise(NUM_BELIEF_SAMPLES, len(previous.rows)).to(state.yaw_rate).repeat(2, 1, 1)
    flags = (torch.arange(2 * NUM_BELIEF_SAMPLES) < NUM_BELIEF_SAMPLES)[:, None].expand(-1, len(previous.rows))
    tried = imagine(replace(previous.state.expand(2 * NUM_BELIEF_SAMPLES), latent_noise=fix_attention(whims, flags)))
    off = (tried.velocity[:, then] - state.velocity[:, now]).abs() / state.context.unit[:, None]
    better = (off.square().unflatten(0, (2, NUM_BELIEF_SAMPLES)).diff(dim=0)[0].mean(0) / (2 * VELOCITY_ERROR**2)).clamp(
        -MAX_EVIDENCE, MAX_EVIDENCE
    )
    saw = previous.attention[:, then]
    changed = CONTROL_DT_S / CORRELATION_S
    saw = torch.sigmoid(torch.logit(saw, 1e-3) + better)
    sees = prior.clone()
    sees[:, now] = saw + changed * (prior[:, now] - saw)
    return AttentionBelief(rows, state, sees, prior)
