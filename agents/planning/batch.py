"""Several planners of one model decide in lock-step: each round is one rollout for the candidates of all.

Everything else is each one's own: cost, search, generator and warm start. Numbers may differ in their last digits from those of
a planner alone, since sums are taken in another order.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from agents.planning.objective import Evaluation, Objective
from agents.planning.planner import Decision, Planner
from sim.bodies import Observation
from sim.policy import Policy


def decide_batch(planners: Sequence[Planner], observations: Sequence[Observation]) -> list[Decision]:
    """What each decides on an observation of its own. Their seconds are those of all together."""
    thinking = [planner.plan_step(observation) for planner, observation in zip(planners, observations, strict=True)]
    asked = {number: next(one) for number, one in enumerate(thinking)}
    decisions = dict[int, Decision]()
    while asked:
        imagined = _evaluate_batch([planners[number].objective for number in asked], list(asked.values()))
        answers, asked = dict(zip(asked, imagined, strict=True)), {}
        for number, answer in answers.items():
            try:
                asked[number] = thinking[number].send(answer)
            except StopIteration as end:
                decisions[number] = end.value
    return [decisions[number] for number in range(len(planners))]


def act_batch(policies: Sequence[Policy], observations: Sequence[Observation]) -> list[np.ndarray]:
    """What each does; whoever is no planner, or alone, decides by itself."""
    planners = [policy for policy in policies if isinstance(policy, Planner)]
    if len(planners) < max(2, len(policies)):
        return [policy.predict(observation)[0] for policy, observation in zip(policies, observations, strict=True)]
    return [planner.act(one) for planner, one in zip(planners, decide_batch(planners, observations), strict=True)]


def _evaluate_batch(objectives: Sequence[Objective], candidates: Sequence[Tensor]) -> list[Evaluation]:
    """What the candidates of each would do; those that want gradients by themselves, since each search takes its own."""
    model = objectives[0].model
    if any(one.model is not model for one in objectives) or any(own.requires_grad for own in candidates):
        return [one.evaluate(own) for one, own in zip(objectives, candidates, strict=True)]
    with torch.inference_mode():
        bodies = model.rollout_scenes([one.state for one in objectives], candidates)
        return [one.evaluate_bodies(own, what) for one, own, what in zip(objectives, candidates, bodies, strict=True)]
