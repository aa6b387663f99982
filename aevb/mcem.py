"""Monte Carlo EM (Wei and Tanner 1990) as Appendix E runs it: persistent HMC chains for the E-step, no encoder.

An E-step moves the chains of one minibatch; the M-step ascends log p(x, z) at their positions, five times.
"""

import math

import torch
from torch import Tensor

from aevb import hmc
from aevb.checks import at_least
from aevb.model import LatentVariableModel
from aevb.objectives import Update

LEAPFROG_STEPS = 10  # Appendix E
UPDATES_PER_SAMPLE = 5  # Appendix E


class Chains:
    """One chain for each of N training points, kept for the whole run: `z` `(N, J)`, begun at the prior.

    This is why MCEM is not on-line: it remembers every datapoint. The step size is one for all, tuned throughout
    toward the acceptance rate of Appendix E, because the posteriors move as theta learns. `z` is float32 whatever
    torch's default type: no run may depend on that. Raises ValueError where a size is less than one.
    """

    def __init__(self, n: int, latent_dim: int, *, generator: torch.Generator):
        at_least(1, n=n, latent_dim=latent_dim)
        self.z = torch.randn((n, latent_dim), generator=generator, dtype=torch.float32, device=generator.device)
        self.step_size = 0.1

    def move(self, model: LatentVariableModel, x: Tensor, rows: Tensor, *, generator: torch.Generator) -> hmc.Info:
        """The E-step: one HMC transition of the chains `rows` `(M,)`, whose data are `x` `(M, D)`.

        A density that is not a number moves nothing: the loss then says so.
        """
        log_density = hmc.posterior(model, x)
        state = hmc.evaluate(log_density, self.z[rows][None])
        state, info = hmc.step(log_density, state, self.step_size, LEAPFROG_STEPS, generator=generator)
        self.z[rows] = state.z[0]
        self.step_size *= math.exp(info.acceptance.mean().item() - hmc.TARGET)
        return info


def m_step(model: LatentVariableModel, x: Tensor, z: Tensor) -> Update:
    """The M-step: minus log p(x, z), whose gradient in theta at z ~ p(z|x) is minus that of log p(x) on average.

    `x` is `(M, D)`, `z` `(1, M, J)`. The update has log p(x, z) in place of a bound, and it is none: without q there
    is no entropy to add.
    """
    log_joint = model.log_joint(x, z)
    return Update(-log_joint.sum(), log_joint[0].detach())
