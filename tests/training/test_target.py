from __future__ import annotations

import pytest
import torch
from tiny_targets import (
    CHANNELS,
    CPU,
    DWP,
    make_tiny,
    tiny_batch,
    tiny_groups,
    tiny_network_prior,
    tiny_objective,
)

from dwp_kedro.bayes.elbo import kl_bound
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.progress import listening
from dwp_kedro.training.loop import train
from dwp_kedro.training.losses import dice_cross_entropy
from dwp_kedro.training.objective import Objective
from dwp_kedro.training.segmentation import SegmentationObjective
from dwp_kedro.training.settings import Compute, Schedule
from dwp_kedro.training.source import new_network
from dwp_kedro.training.target import (
    Method,
    MixtureObjective,
    PosteriorSettings,
    make_objective,
    make_prior,
)


@pytest.mark.parametrize("estimator", ["weight_samples", "local_reparameterisation"])
def test_the_loss_is_data_term_plus_temperature_times_kl_over_nv(estimator):
    objective = tiny_objective(temperature=0.3, estimator=estimator)
    terms = objective(*tiny_batch(), step=0, generator=torch.Generator().manual_seed(1))
    expected = terms["data_term"] + 0.3 * terms["kl"] / (5 * 16**3)
    torch.testing.assert_close(terms["loss"].detach(), expected)


@pytest.mark.parametrize(
    ("estimator", "noise"),
    [
        ("weight_samples", BayesianNetwork.weight_sample),
        ("local_reparameterisation", BayesianNetwork.local_reparameterisation),
    ],
)
@pytest.mark.parametrize("names", [("deep_weight_prior",), ("source_posterior", "gaussian")])
def test_at_temperature_zero_nothing_of_the_prior_is_computed(names, estimator, noise):
    objective = tiny_objective(names, temperature=0.0, estimator=estimator)
    terms = objective(*tiny_batch(), step=0, generator=torch.Generator().manual_seed(1))
    assert terms.keys() == {"loss", "data_term", "train_dsc", "log_variance"}
    assert terms["loss"].item() == terms["data_term"].item()
    terms["loss"].backward()
    gradients = {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
    posterior = objective.posterior
    posterior.zero_grad()
    with noise(posterior, torch.Generator().manual_seed(1)):
        dice_cross_entropy(posterior(tiny_batch()[0]), tiny_batch()[1], 0.99).backward()
    alone = {f"posterior.{name}": p.grad for name, p in posterior.named_parameters() if p.grad is not None}
    assert gradients.keys() == alone.keys()
    assert all(torch.equal(gradients[name], alone[name]) for name in alone)
    assert all(name.startswith("posterior.") for name in objective.state_dict())


@pytest.mark.parametrize("estimator", ["weight_samples", "local_reparameterisation"])
def test_under_mixed_precision_the_kl_is_that_of_float32_and_the_data_term_is_not(estimator):
    objective = tiny_objective(estimator=estimator, kernel_fraction=1.0)
    plain = objective(*tiny_batch(), step=0, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = objective(*tiny_batch(), step=0, generator=torch.Generator().manual_seed(1))
    assert mixed["kl"].dtype == torch.float32
    assert torch.equal(mixed["kl"], plain["kl"])
    assert not torch.equal(mixed["data_term"], plain["data_term"])


@pytest.mark.parametrize("estimator", ["weight_samples", "local_reparameterisation"])
@pytest.mark.parametrize(("temperature", "terms"), [(0.0, ["data_term"]), (1.0, ["data_term", "kl"])])
def test_noise_is_new_in_every_step_and_the_generators_alone(estimator, temperature, terms):
    objective = tiny_objective(estimator=estimator, temperature=temperature, kernel_fraction=1.0)
    generator = torch.Generator().manual_seed(1)
    start = generator.get_state()
    first, second = (objective(*tiny_batch(), step=0, generator=generator) for _ in range(2))
    again = objective(*tiny_batch(), step=0, generator=generator.set_state(start))
    for term in terms:
        assert first[term] != second[term], term
        assert torch.equal(first[term], again[term]), term


def test_the_prior_acts_on_other_kernels_in_every_step():
    """The chosen ones are those whose means' gradients are other than without a prior, from the same noise."""
    objective, alone = tiny_objective(temperature=1.0, kernel_fraction=0.3), tiny_objective(temperature=0.0)
    generator, chosen = torch.Generator().manual_seed(1), []
    for _ in range(40):
        same = generator.clone_state()
        gradients = []
        for each, noise in ((objective, generator), (alone, same)):
            each.zero_grad()
            each(*tiny_batch(), step=0, generator=noise)["loss"].backward()
            layers = [each.posterior.layer(name) for group in tiny_groups() for name in group.layers]
            gradients.append(torch.cat([layer.mean.grad.flatten(end_dim=1) for layer in layers]).flatten(1))
        chosen.append((gradients[0] != gradients[1]).any(1))
    times = torch.stack(chosen).sum(0)
    assert not torch.equal(chosen[0], chosen[1])
    assert 0.2 < chosen[0].float().mean() < 0.5
    assert times.min() > 0, "every kernel has its turn"


def test_the_temperature_warms_up():
    objective = tiny_objective(temperature=1.0, warm_up_steps=10)
    cold = objective(*tiny_batch(), step=0, generator=torch.Generator().manual_seed(1))
    assert cold["loss"].item() == cold["data_term"].item()
    warm = objective(*tiny_batch(), step=5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(warm["loss"].detach(), warm["data_term"] + 0.5 * warm["kl"] / (5 * 16**3))


@pytest.mark.parametrize("train_encoder", [True, False])
def test_training_moves_posterior_and_encoder_and_leaves_the_decoder_bit_for_bit(train_encoder):
    objective = tiny_objective(temperature=1.0, kernel_fraction=1.0, train_encoder=train_encoder)
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    schedule = Schedule(kind="cosine", learning_rate=1e-3, max_steps=2)
    train(objective, tiny_batch(), task="t", batch_size=2, schedule=schedule, seed=0, compute=CPU)
    for name, tensor in objective.state_dict().items():
        stays = ".decoder." in name or (".encoder." in name and not train_encoder)
        assert torch.equal(before[name], tensor) == stays, name


@pytest.mark.parametrize(
    "names",
    [
        ("scale_mixture",),
        ("gaussian",),
        ("standard_normal",),
        ("source_posterior",),
        ("deep_weight_prior", "gaussian"),
    ],
)
def test_every_prior_pulls_at_means_and_variances_and_stays_itself(names):
    objective = tiny_objective(names, temperature=1.0, kernel_fraction=1.0)
    assert objective.prior is not None
    fixed = {name: tensor.clone() for name, tensor in objective.prior.state_dict().items() if "vae" not in name}
    kl_bound(objective.posterior, objective.prior, torch.Generator().manual_seed(0)).backward()
    for name, parameter in objective.posterior.named_parameters():
        assert (parameter.grad is not None) == name.endswith((".mean", ".raw_log_variance")), name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name
    objective.zero_grad()
    schedule = Schedule(kind="cosine", learning_rate=1e-3, max_steps=2)
    history = train(objective, tiny_batch(), task="t", batch_size=2, schedule=schedule, seed=0, compute=CPU)
    assert history.rows[-1]["kl"] != 0
    assert all(torch.equal(tensor, objective.prior.state_dict()[name]) for name, tensor in fixed.items())


def test_the_data_term_alone_would_not_see_the_prior():
    """The pull of the prior: at a huge temperature the KL falls, which the data term alone does not make it do."""
    schedule = Schedule(kind="cosine", learning_rate=5e-3, max_steps=15)
    falls = []
    prior = make_prior(
        DWP.priors, tiny_network_prior(), None, PosteriorSettings(kernel_fraction=1.0), tiny_groups()
    )
    for temperature in (0.0, 100.0):
        objective = tiny_objective(temperature=temperature, kernel_fraction=1.0, train_encoder=False)
        kls = []
        for _ in range(2):
            with torch.no_grad():
                generator = torch.Generator().manual_seed(9)
                kls.append(kl_bound(objective.posterior, prior, generator).item())
            if len(kls) == 1:
                train(objective, tiny_batch(), task="t", batch_size=2, schedule=schedule, seed=0, compute=CPU)
        falls.append(kls[0] - kls[1])
    assert falls[1] > 5 * abs(falls[0])
    assert falls[1] > 0


def test_prf_trains_the_first_and_the_last_block_only():
    layers = ("init_conv", "down1", "up3", "out")
    objective, trained = make_tiny((), PosteriorSettings(), layers=layers)
    assert isinstance(objective, SegmentationObjective)
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    schedule = Schedule(kind="cosine", learning_rate=1e-2, max_steps=2)
    train(objective, tiny_batch(), task="t", batch_size=2, schedule=schedule, seed=0, compute=CPU)
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
        objective, trained = make_tiny((), PosteriorSettings(), layers=layers)
        compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
        schedule = Schedule(kind="cosine", learning_rate=1e-2, max_steps=4)
        train(objective, tiny_batch(), task="t", batch_size=2, schedule=schedule, seed=0, compute=compute)
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
        make_objective(network, (), Method((), ("down9",)), None, {}, PosteriorSettings(), 0.99, 2)


def test_the_data_term_is_the_loss_of_the_sampled_network():
    objective = tiny_objective(estimator="weight_samples", temperature=0.0)
    images, labels = tiny_batch()
    terms = objective(images, labels, step=0, generator=torch.Generator().manual_seed(3))
    with objective.posterior.weight_sample(torch.Generator().manual_seed(3)):
        logits = objective.posterior(images)
    torch.testing.assert_close(terms["data_term"], dice_cross_entropy(logits, labels, 0.99).detach())


class Scripted(Objective):
    def __init__(self, dsc: float) -> None:
        super().__init__()
        self.dsc = torch.tensor(dsc)

    def forward(self, *batch: torch.Tensor, step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"loss": 1 - self.dsc, "train_dsc": self.dsc}

    def settings(self) -> dict[str, object]:
        return {}


def test_a_network_that_finds_nothing_shows_beside_those_that_do():
    mixture = MixtureObjective([Scripted(dsc) for dsc in (0.8, 0.0, 0.7)])
    terms = mixture(step=0, generator=torch.Generator())
    assert terms["train_dsc"] == pytest.approx(0.5)
    assert terms["least_train_dsc"] == 0


def test_networks_side_by_side_get_the_gradients_they_would_get_alone():
    settings, prior = PosteriorSettings(temperature=1.0, estimator="weight_samples"), tiny_network_prior()
    components = [make_tiny(DWP.priors, settings, seed, prior)[0] for seed in (0, 1)]
    mixture, generator = MixtureObjective(components), torch.Generator().manual_seed(2)
    state = generator.get_state()
    terms = mixture(*tiny_batch(), step=0, generator=generator)
    terms["loss"].backward()
    found = [{n: p.grad for n, p in component.named_parameters()} for component in components]
    mixture.zero_grad()
    generator.set_state(state)
    alone = []
    for component, gradients in zip(components, found, strict=True):
        alone.append(component(*tiny_batch(), step=0, generator=generator))
        alone[-1]["loss"].backward()
        for name, parameter in component.named_parameters():
            assert (parameter.grad is None) == (gradients[name] is None), name
            if parameter.grad is not None:
                torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(terms["loss"], alone[0]["loss"] + alone[1]["loss"])
    torch.testing.assert_close(terms["data_term"], (alone[0]["data_term"] + alone[1]["data_term"]) / 2)
    assert terms.keys() == {*alone[0].keys(), "least_train_dsc"}
    assert terms["least_train_dsc"] == min(one["train_dsc"] for one in alone)
    encoders = [{id(p) for n, p in component.named_parameters() if ".encoder." in n} for component in components]
    assert not encoders[0] & encoders[1], "each component trains an encoder of its own"
