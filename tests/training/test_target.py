from __future__ import annotations

import pytest
import torch

from dwp_kedro.bayes.elbo import kl_bound
from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.networks import KernelVAE, UNet3D
from dwp_kedro.networks.kernel_vae import initialise_vae
from dwp_kedro.progress import listening
from dwp_kedro.training.loop import train
from dwp_kedro.training.losses import dice_cross_entropy
from dwp_kedro.training.segmentation import predict
from dwp_kedro.training.settings import Compute, Schedule
from dwp_kedro.training.source import new_network
from dwp_kedro.training.target import (
    Method,
    PosteriorObjective,
    PosteriorSettings,
    draw_from_priors,
    make_objective,
    make_posterior,
)

CPU = Compute(device="cpu")
CHANNELS = (2, 3, 3, 4)
DWP = Method("deep_weight_prior")


def _priors(scale: float = 0.1) -> dict[str, DeepWeightPrior]:
    priors = {}
    for seed, group in enumerate(kernel_groups(UNet3D(channels=CHANNELS), 1)):
        vae = KernelVAE()
        initialise_vae(vae, torch.Generator().manual_seed(seed))
        priors[group.name] = DeepWeightPrior(vae, scale * (seed + 1))
    return priors


def _batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 1, 16, 16, 16, generator=generator)
    return images, (images[:, 0] > 1).to(torch.uint8)


def _objective(**settings) -> PosteriorObjective:
    network = new_network(1, 2, CHANNELS, seed=0)
    objective, _ = make_objective(network, DWP, _priors(), PosteriorSettings(**settings), 0.99, n_volumes=5)
    assert isinstance(objective, PosteriorObjective)
    return objective


@pytest.mark.parametrize("estimator", ["weight_samples", "local_reparameterisation"])
def test_the_loss_is_data_term_plus_temperature_times_kl_over_nv(estimator):
    objective = _objective(temperature=0.3, estimator=estimator)
    terms = objective(*_batch(), step=0, generator=torch.Generator().manual_seed(1))
    expected = terms["data_term"] + 0.3 * terms["kl"] / (5 * 16**3)
    torch.testing.assert_close(terms["loss"].detach(), expected)


def test_temperature_zero_leaves_the_data_term():
    terms = _objective(temperature=0.0)(*_batch(), step=0, generator=torch.Generator().manual_seed(1))
    assert terms["loss"].item() == terms["data_term"].item()


def test_the_temperature_warms_up():
    objective = _objective(temperature=1.0, warm_up_steps=10)
    cold = objective(*_batch(), step=0, generator=torch.Generator().manual_seed(1))
    assert cold["loss"].item() == cold["data_term"].item()
    warm = objective(*_batch(), step=5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(warm["loss"].detach(), warm["data_term"] + 0.5 * warm["kl"] / (5 * 16**3))


def test_training_moves_posterior_and_encoder_and_leaves_the_decoder_bit_for_bit():
    objective = _objective(temperature=1.0, kernel_fraction=1.0)
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    schedule = Schedule(kind="cosine", learning_rate=1e-3, max_steps=2)
    train(objective, _batch(), task="t", batch_size=2, schedule=schedule, seed=0, compute=CPU)
    for name, tensor in objective.state_dict().items():
        assert torch.equal(before[name], tensor) == (".decoder." in name), name


def test_an_encoder_that_is_not_to_train_stays():
    objective = _objective(train_encoder=False)
    assert not any(p.requires_grad for prior in objective.priors.values() for p in prior.parameters())


def test_the_data_term_alone_would_not_see_the_prior():
    """The pull of the prior: at a huge temperature the KL falls, which the data term alone does not make it do."""
    schedule = Schedule(kind="cosine", learning_rate=5e-3, max_steps=30)
    falls = []
    for temperature in (0.0, 100.0):
        objective = _objective(temperature=temperature, kernel_fraction=1.0, train_encoder=False)
        kls = []
        for _ in range(2):
            with torch.no_grad():
                generator = torch.Generator().manual_seed(9)
                kls.append(kl_bound(objective.posterior, objective._priors(), generator).item())
            if len(kls) == 1:
                train(objective, _batch(), task="t", batch_size=2, schedule=schedule, seed=0, compute=CPU)
        falls.append(kls[0] - kls[1])
    assert falls[1] > 5 * abs(falls[0])
    assert falls[1] > 0


def test_a_start_from_the_prior_replaces_every_kernel_and_nothing_else():
    network, priors = new_network(1, 2, CHANNELS, seed=0), _priors()
    drawn = new_network(1, 2, CHANNELS, seed=0)
    groups = kernel_groups(drawn, 1)
    draw_from_priors(drawn, groups, priors, seed=4)
    again = new_network(1, 2, CHANNELS, seed=0)
    draw_from_priors(again, groups, priors, seed=4)
    for name, weight in drawn.named_parameters():
        assert torch.equal(weight, again.get_parameter(name))
        is_kernel = weight.shape[-1] == 3
        assert torch.equal(weight, network.get_parameter(name)) != is_kernel, name


def test_initial_sigma_is_a_fraction_of_each_groups_scale():
    network, priors = new_network(1, 2, CHANNELS, seed=0), _priors(scale=0.01)
    groups = kernel_groups(network, 1)
    posterior = make_posterior(network, groups, priors, initial_sigma=0.5)
    for number, group in enumerate(groups, start=1):
        sigma = (0.5 * posterior.kernels(group)[1]).exp()
        torch.testing.assert_close(sigma, torch.full_like(sigma, 0.5 * 0.01 * number))


def test_a_prior_that_does_not_fit_names_the_groups():
    network, priors = new_network(1, 2, CHANNELS, seed=0), _priors()
    del priors["group_2"], priors["group_6"]
    with pytest.raises(ValueError, match=r"group_2 \(encoder 1/2\), group_6 \(decoder 1/2\)"):
        make_posterior(network, kernel_groups(network, 1), priors, 0.1)


def test_prf_trains_the_first_and_the_last_block_only():
    layers = ("init_conv", "down1", "up3", "out")
    network = new_network(1, 2, CHANNELS, seed=0)
    objective, trained = make_objective(network, Method("none", layers), {}, PosteriorSettings(), 0.99, 2)
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    schedule = Schedule(kind="cosine", learning_rate=1e-2, max_steps=2)
    train(objective, _batch(), task="t", batch_size=2, schedule=schedule, seed=0, compute=CPU)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(before[name], tensor) != (name.split(".")[0] in layers), name


def test_a_state_of_other_trained_layers_is_not_taken_up(tmp_path):
    """Moments are saved by position: taken up for other layers they would be of other shapes."""

    class Kill:
        def on_progress(self, task, completed, total, metrics):
            if completed == 3:
                raise KeyboardInterrupt

        def on_metrics(self, metrics, step):
            pass

    def run(layers):
        network = new_network(1, 2, CHANNELS, seed=0)
        objective, trained = make_objective(network, Method("none", layers), {}, PosteriorSettings(), 0.99, 2)
        compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
        schedule = Schedule(kind="cosine", learning_rate=1e-2, max_steps=4)
        train(objective, _batch(), task="t", batch_size=2, schedule=schedule, seed=0, compute=compute)
        return trained.state_dict()

    with listening(Kill()), pytest.raises(KeyboardInterrupt):
        run(("init_conv", "down1"))
    assert list(tmp_path.iterdir())
    resumed = run(("up3", "out"))
    fresh = run(("up3", "out"))
    assert all(torch.equal(resumed[name], fresh[name]) for name in fresh)


def test_unknown_layers_are_named_with_those_there_are():
    network = new_network(1, 2, CHANNELS, seed=0)
    with pytest.raises(ValueError, match=r"down9; the network has init_conv, down1"):
        make_objective(network, Method("none", ("down9",)), {}, PosteriorSettings(), 0.99, 2)


def test_prediction_averages_weight_samples_that_all_volumes_share():
    network = new_network(1, 2, CHANNELS, seed=0)
    posterior = make_posterior(network, kernel_groups(network, 1), _priors(), 0.5)
    images = _batch()[0][:1].expand(2, -1, -1, -1, -1)
    options = {"task": "p", "compute": CPU}
    mean = list(predict(posterior, lambda i: images[i], 2, **options))
    torch.testing.assert_close(mean[0], network(images[:1]).softmax(1)[0].detach())
    sampled = list(predict(posterior, lambda i: images[i], 2, n_samples=3, seed=1, **options))
    assert torch.equal(sampled[0], sampled[1])
    assert not torch.allclose(sampled[0], mean[0])
    torch.testing.assert_close(sampled[0].sum(0), torch.ones(16, 16, 16))
    assert isinstance(posterior, BayesianNetwork)
    assert torch.is_grad_enabled()


def test_the_data_term_is_the_loss_of_the_sampled_network():
    objective = _objective(estimator="weight_samples", temperature=0.0)
    images, labels = _batch()
    terms = objective(images, labels, step=0, generator=torch.Generator().manual_seed(3))
    with objective.posterior.weight_sample(torch.Generator().manual_seed(3)):
        logits = objective.posterior(images)
    torch.testing.assert_close(terms["data_term"], dice_cross_entropy(logits, labels, 0.99).detach())
