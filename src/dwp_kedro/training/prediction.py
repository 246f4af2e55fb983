"""Prediction with trained networks: mean probability, and how uncertain it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.progress import track
from dwp_kedro.training.loop import make_fabric
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.settings import Compute


@dataclass(frozen=True)
class Prediction:
    """What networks say of one volume, float32 on the CPU.

    With p the class probabilities of one pass, E the mean over passes (networks, and weight samples of each) and
    H[p] = −Σ p log p over classes, in nats:

    Attributes:
        probability: E p, (classes, x, y, z).
        entropy: H[E p], (x, y, z): the whole uncertainty, at most log(classes).
        mutual_information: H[E p] − E H[p], (x, y, z): the part of it on which the passes disagree, that is the
            mutual information of label and weights (Houlsby et al. 2011, eq. 2; epistemic uncertainty in Depeweg
            et al. 2018). Zero everywhere for a single pass.
    """

    probability: Tensor
    entropy: Tensor
    mutual_information: Tensor


def predict(
    networks: Sequence[nn.Module],
    images: Callable[[int], Tensor],
    n_volumes: int,
    *,
    task: str,
    compute: Compute,
    n_samples: int = 0,
    seed: int = 0,
) -> Iterator[Prediction]:
    """Yield the predictions of whole volumes, one at a time.

    Args:
        networks: one network, plain or Bayesian, or an ensemble of networks trained alike; all have equal weight.
        images: gives the i-th volume (channels, x, y, z).
        n_volumes: how many there are.
        task: what progress calls it.
        compute: device and precision.
        n_samples: weight samples per Bayesian network; 0 is one pass at the posterior mean. A sample holds for
            the whole volume, and the same samples serve all volumes. Plain networks take one pass in any case.
        seed: of the weight samples.

    Raises:
        ValueError: if there is no network.
    """
    if not networks:
        raise ValueError("networks: a prediction needs at least one")
    fabric = make_fabric(compute, images(0).shape)
    networks = [network.to(fabric.device).eval() for network in networks]
    for index in track(range(n_volumes), task):
        volume = fabric.to_device(images(index))[None]
        # The block must not enclose a yield: it would switch gradients off for whoever asks.
        with torch.no_grad(), fabric.autocast():
            prediction = _predict_volume(networks, volume, n_samples, seed)
        yield prediction


def _predict_volume(networks: Sequence[nn.Module], volume: Tensor, n_samples: int, seed: int) -> Prediction:
    """Predict one volume (1, channels, x, y, z), holding one pass and two sums at a time."""
    probability = mean_entropy = torch.zeros((), device=volume.device)
    for number, network in enumerate(networks):
        is_sampled = n_samples > 0 and isinstance(network, BayesianNetwork)
        weight = 1 / (len(networks) * (n_samples if is_sampled else 1))
        # Made anew for every volume, so that all of them get the same weights.
        generator = make_generator(seed, f"prediction of network {number}", volume.device)
        for logits in _passes(network, volume, n_samples, generator):
            of_pass = logits.float().softmax(1)[0]
            probability = probability + weight * of_pass
            mean_entropy = mean_entropy + weight * _entropy(of_pass)
    entropy = _entropy(probability)
    information = (entropy - mean_entropy).clamp_min(0)  # below 0 by rounding alone: entropy is concave
    return Prediction(probability.cpu(), entropy.cpu(), information.cpu())


def _passes(network: nn.Module, volume: Tensor, n_samples: int, generator: torch.Generator) -> Iterator[Tensor]:
    if n_samples == 0 or not isinstance(network, BayesianNetwork):
        yield network(volume)
        return
    for _ in range(n_samples):
        with network.weight_sample(generator):
            logits = network(volume)
        yield logits


def _entropy(probability: Tensor) -> Tensor:
    """Entropy over the first axis, nats; 0·log 0 is 0."""
    return torch.special.entr(probability).sum(0)
