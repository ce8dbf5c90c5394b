"""How strong a penalty has to be to matter at all."""

from dataclasses import replace

import torch

from sparsact.compare.problems.problem import Problem
from sparsact.compare.settings.training_plan import Plan, Setting
from sparsact.compare.training.knobs import turn, within_range
from sparsact.compare.training.training import Training

SHARE = 0.02
"""Of the loss."""


def first_strength(setting: Setting, plan: Plan, problem: Problem) -> float:
    """The coefficient with which the penalty is a small share of the loss, before any training.

    So the scales of the loss and of the network do not matter. It depends on seed 0 alone.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        training = Training(turn(replace(setting, point=None), 1.0), 0, plan, problem)
        batch = next(problem.train.shuffled(torch.Generator().manual_seed(0)))
        loss = problem.learning.loss(training.model, batch).item()
        penalty = training.penalties[0]().item()
    if not loss > 0 or not penalty > 0:
        return 1e-4
    return within_range("strength", SHARE * loss / penalty)
