"""How far a training moves the σ of a posterior."""

from __future__ import annotations

import pytest
import torch
from tiny_targets import CPU, DWP, make_tiny, tiny_batch, tiny_network_prior

from dwp_kedro.bayes.control_priors import GaussianPrior
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.training.loop import train
from dwp_kedro.training.settings import Schedule
from dwp_kedro.training.target import MixtureObjective, PosteriorSettings


@pytest.mark.parametrize("components", [1, 2])
def test_log_variances_move_at_their_own_rate(components):
    """Adam's first step is the learning rate, so both can be read off it."""
    made = [make_tiny(DWP.priors, PosteriorSettings(log_variance_rate=20), seed=k) for k in range(components)]
    before = [{name: p.detach().clone() for name, p in network.named_parameters()} for _, network in made]
    objective = made[0][0] if components == 1 else MixtureObjective([one for one, _ in made])
    schedule = Schedule(kind="constant", learning_rate=1e-3, max_steps=1)
    history = train(objective, tiny_batch(), task="task", batch_size=2, schedule=schedule, seed=0, compute=CPU)
    for (_, network), start in zip(made, before, strict=True):
        moved = {name: (p.detach() - start[name]).abs().median().item() for name, p in network.named_parameters()}
        for name, distance in moved.items():
            assert distance == pytest.approx(2e-2 if name.endswith("log_variance") else 1e-3, rel=0.02), name
    start = torch.cat([p.flatten() for one in before for name, p in one.items() if name.endswith("log_variance")])
    assert history.rows[0]["log_variance"] == pytest.approx(start.mean().item(), rel=1e-4)


@pytest.mark.parametrize(("rate", "arrives"), [(60, True), (1, False)])
def test_without_data_worth_speaking_of_a_posterior_gets_the_spread_of_its_prior(rate, arrives):
    """KL(q ‖ N(0, s²)) is least at σ = s; at the means' learning rate 100 steps do not lead there."""
    settings = PosteriorSettings(temperature=1e6, log_variance_rate=rate, kernel_fraction=1.0)
    objective, posterior = make_tiny(("gaussian",), settings)
    schedule = Schedule(kind="cosine", learning_rate=2e-3, max_steps=100)
    train(objective, tiny_batch(), task="task", batch_size=2, schedule=schedule, seed=0, compute=CPU)
    assert isinstance(posterior, BayesianNetwork)
    found = torch.cat([posterior.kernels(group)[1].flatten() for group in posterior.groups])
    prior = tiny_network_prior().controls["gaussian"][posterior.groups[0].name]
    assert isinstance(prior, GaussianPrior)
    # The best diagonal q has, weight by weight, the inverse of the precision's diagonal as its variance.
    covariance = prior.scale**2 * prior.cholesky @ prior.cholesky.T
    best = -torch.linalg.inv(covariance).diagonal().log()
    error = (found.view(-1, 27) - best).abs().mean().item()
    assert error < 0.2 if arrives else error > 1
