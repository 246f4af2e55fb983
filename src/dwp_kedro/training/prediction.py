"""Prediction with trained networks: mean probability, and how uncertain it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

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


class Inferer(Protocol):
    """How much of a volume a network sees at once."""

    def __call__(self, network: nn.Module, volume: Tensor, device: torch.device) -> Tensor:
        """Return the logits (1, classes, x, y, z) of a volume (1, channels, x, y, z), which is in the main memory.

        The network is on ``device``; all its passes over one volume happen in one call.
        """


def see_whole(network: nn.Module, volume: Tensor, device: torch.device) -> Tensor:
    """Let the network see the whole volume."""
    return network(volume.to(device))


def predict(
    networks: Sequence[nn.Module],
    images: Callable[[int], Tensor],
    n_volumes: int,
    *,
    task: str,
    compute: Compute,
    n_samples: int = 0,
    seed: int = 0,
    infer: Inferer = see_whole,
) -> Iterator[Prediction]:
    """Yield the predictions of volumes, one at a time.

    Args:
        networks: one network, plain or Bayesian, or an ensemble of networks trained alike; all have equal weight.
        images: gives the i-th volume (channels, x, y, z), in the main memory.
        n_volumes: how many there are.
        task: what progress calls it.
        compute: device and precision.
        n_samples: weight samples per Bayesian network; 0 is one pass at the posterior mean. A sample holds for
            all of a volume, and the same samples serve all volumes. Plain networks take one pass in any case.
        seed: of the weight samples.
        infer: how much of a volume a network sees at once.

    Raises:
        ValueError: if there is no network.
    """
    if not networks:
        raise ValueError("networks: a prediction needs at least one")
    for index in track(range(n_volumes), task):
        volume = images(index)[None]
        fabric = make_fabric(compute, volume.shape)
        networks = [network.to(fabric.device).eval() for network in networks]
        # The block must not enclose a yield: it would switch gradients off for whoever asks.
        with torch.no_grad(), fabric.autocast():
            prediction = _predict_volume(networks, volume, n_samples, seed, infer, fabric.device)
        yield prediction


def _predict_volume(
    networks: Sequence[nn.Module],
    volume: Tensor,
    n_samples: int,
    seed: int,
    infer: Inferer,
    device: torch.device,
) -> Prediction:
    """Predict one volume (1, channels, x, y, z), holding one pass and two sums at a time."""
    probability = mean_entropy = torch.zeros(())
    for number, network in enumerate(networks):
        is_sampled = n_samples > 0 and isinstance(network, BayesianNetwork)
        weight = 1 / (len(networks) * (n_samples if is_sampled else 1))
        # Made anew for every volume, so that all of them get the same weights.
        generator = make_generator(seed, f"prediction of network {number}", device)
        see = partial(infer, network, volume, device)
        for logits in _passes(network, see, n_samples, generator):
            of_pass = logits.float().softmax(1)[0]
            probability = probability + weight * of_pass
            mean_entropy = mean_entropy + weight * _entropy(of_pass)
    entropy = _entropy(probability)
    information = (entropy - mean_entropy).clamp_min(0)  # below 0 by rounding alone: entropy is concave
    return Prediction(probability.cpu(), entropy.cpu(), information.cpu())


def _passes(
    network: nn.Module, see: Callable[[], Tensor], n_samples: int, generator: torch.Generator
) -> Iterator[Tensor]:
    if n_samples == 0 or not isinstance(network, BayesianNetwork):
        yield see()
        return
    for _ in range(n_samples):
        # One sample for the whole block, however many windows there are.
        with network.weight_sample(generator):
            logits = see()
        yield logits


def _entropy(probability: Tensor) -> Tensor:
    """Entropy over the first axis, nats; 0·log 0 is 0."""
    return torch.special.entr(probability).sum(0)
