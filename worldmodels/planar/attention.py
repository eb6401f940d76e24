"""Hidden state of agents: latent noise that is sampled, and the belief about their attention.

An attentive agent reacts to the robot; an inattentive agent does not. Attention stays the same for
seconds. It is visible in the motion of an agent whose path the robot crosses. Therefore a belief is
passed from each observation to the next. The last step is predicted twice: with all agents
attentive, and with no agent attentive. The observation shows which prediction is likelier (a Bayes
filter of two states with occasional changes). The robot's action in that step is unknown here and
assumed to be zero. This changes a belief by at most 0.024 (in two layouts).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sim.bodies import CONTROL_DT_S
from worldmodels.planar.state import PlanarState

NUM_WAVES = 4  # waves in the latent noise, and constants with one less
CORRELATION_S = 4.0  # period of the waves, and mean time until attention is sampled again
ATTENTION_COLUMNS = [0, 1, 2]  # of noise: attention now, attention later, time of the change [s]
NOISE_SIZE = len(ATTENTION_COLUMNS) - 1 + 3 * NUM_WAVES
CERTAIN_NOISE = 9.0  # [standard deviations] noise that decides attention
NUM_BELIEF_SAMPLES = 8  # samples of latent noise for the prediction of the last step
VELOCITY_ERROR = 0.04  # [units/s] standard error of predicted velocities after one step
MAX_EVIDENCE = 1.5  # of one step, as a change of the log odds


@dataclass(frozen=True)
class AttentionBelief:
    """Probability that each body of an observation is attentive to the robot."""

    rows: tuple[int, ...]  # of the M bodies in the observation
    state: PlanarState
    attention: Tensor  # (1, M) probability now
    prior: Tensor  # (1, M) probability without any history


def sample_noise(particles: int, num_dynamic: int) -> Tensor:
    """Sample latent noise, with a fixed seed; numbers of ATTENTION_COLUMNS are stratified.

    Args:
        particles: number P of particles.
        num_dynamic: number M of bodies.

    Returns:
        (P, M, NOISE_SIZE) noise, standard normal except for the time of the change [s].
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(particles, num_dynamic, NOISE_SIZE, generator=generator, device="cpu")
    ranks = torch.rand(particles, num_dynamic, 3, generator=generator, device="cpu").argsort(0)
    even = (ranks + 0.5) / particles
    noise[..., ATTENTION_COLUMNS] = torch.cat([torch.special.ndtri(even[..., :2]), -CORRELATION_S * torch.log(even[..., 2:])], -1)
    return noise


def fix_attention(noise: Tensor, is_attentive: Tensor) -> Tensor:
    """Replace the numbers of attention in latent noise by a constant attention.

    Args:
        noise: (..., NOISE_SIZE).
        is_attentive: (...) bool.

    Returns:
        (..., NOISE_SIZE) noise.
    """
    now = torch.where(is_attentive, -CERTAIN_NOISE, CERTAIN_NOISE)
    fixed = torch.stack([now, torch.zeros_like(now), torch.full_like(now, torch.inf)], -1)
    return torch.cat([fixed.to(noise).expand(*noise.shape[:-1], -1), noise[..., len(ATTENTION_COLUMNS) :]], -1)


def sample_attention(probability: Tensor, noise: Tensor, is_agent: Tensor, steps: int) -> Tensor:
    """Sample the attention of agents at each step of a rollout.

    Args:
        probability: (B, M, 2) of being attentive now, and after attention is sampled again.
        noise: (B, M, NOISE_SIZE).
        is_agent: (B, M) 1 or 0.
        steps: number H of steps.

    Returns:
        (H, B, M) 1 for attentive agents and bodies that are no agents, 0 for inattentive agents.
    """
    first, second, until_s = noise[..., : len(ATTENTION_COLUMNS)].unbind(-1)
    time_s = CONTROL_DT_S * torch.arange(steps, device=noise.device)[:, None, None]
    first, second = (torch.special.ndtr(torch.stack([first, second])) >= probability.movedim(-1, 0)).unbind()
    return 1 - is_agent * torch.where(time_s < until_s, first, second)


def unroll_noise(noise: Tensor, steps: int) -> Tensor:
    """Unroll latent noise over time: constants, their signs, and waves of random phase.

    The waves are standard normal at all times. The signs help with decisions to the left or the
    right. Numbers of attention are left out: attention acts through the messages between bodies
    alone.

    Args:
        noise: (B, M, NOISE_SIZE).
        steps: number H of steps.

    Returns:
        (B, H, M, 3 * NUM_WAVES) noise of each step.
    """
    constant, sine, cosine = noise[:, None, :, len(ATTENTION_COLUMNS) - 1 :].split(NUM_WAVES, -1)
    time = (2 * torch.pi / CORRELATION_S * CONTROL_DT_S) * torch.arange(steps, device=noise.device)[:, None, None]
    constant = F.pad(constant[..., 1:], (1, 0))
    constant = torch.cat([constant, constant.sign()], -1)
    return torch.cat([constant.expand(-1, steps, -1, -1), sine * time.sin() + cosine * time.cos()], -1)


def update_belief(
    previous: AttentionBelief | None,
    rows: tuple[int, ...],
    state: PlanarState,
    prior: Tensor,
    imagine: Callable[[PlanarState], PlanarState],
) -> AttentionBelief:
    """Update the belief about attention with an observation, by the filter of this module.

    Args:
        previous: belief one control step ago; None at the start of an episode.
        rows: rows of the M bodies in the observation.
        state: the observation, one scene.
        prior: (1, M) probability of attention without any history; also that of new bodies.
        imagine: predicts the state one control step later.

    Returns:
        The belief about `state`.
    """
    known = {}
    if previous is not None:  # bodies that are not present have rows too
        known = {row: column for column, row in enumerate(previous.rows) if previous.state.context.present[0, column]}
    matches = [(column, known[row]) for column, row in enumerate(rows) if row in known]
    if previous is None or not matches:
        return AttentionBelief(rows, state, prior, prior)
    now, before = (torch.tensor(columns) for columns in zip(*matches, strict=True))
    noise = sample_noise(NUM_BELIEF_SAMPLES, len(previous.rows)).to(state.yaw_rate).repeat(2, 1, 1)
    is_attentive = (torch.arange(2 * NUM_BELIEF_SAMPLES) < NUM_BELIEF_SAMPLES)[:, None].expand(-1, len(previous.rows))
    start = replace(previous.state.expand(2 * NUM_BELIEF_SAMPLES), latent_noise=fix_attention(noise, is_attentive))
    error = (imagine(start).velocity[:, before] - state.velocity[:, now]).abs() / state.context.unit[:, None]
    difference = error.square().unflatten(0, (2, NUM_BELIEF_SAMPLES)).diff(dim=0)[0].mean(0)
    evidence = (difference / (2 * VELOCITY_ERROR**2)).clamp(-MAX_EVIDENCE, MAX_EVIDENCE)
    likely = torch.sigmoid(torch.logit(previous.attention[:, before], 1e-3) + evidence)
    attention = prior.clone()
    attention[:, now] = likely + CONTROL_DT_S / CORRELATION_S * (prior[:, now] - likely)
    return AttentionBelief(rows, state, attention, prior)
