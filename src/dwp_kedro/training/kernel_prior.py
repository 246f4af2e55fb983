"""Learning a deep weight prior from the kernels of source networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dwp_kedro.bayes.control_priors import FittedDensity, fit_gaussian, fit_scale_mixture, spread
from dwp_kedro.bayes.groups import KernelGroup, layer_kernels
from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.bayes.noise import standard_normal
from dwp_kedro.bayes.priors import DeepWeightPrior, vae_terms
from dwp_kedro.networks.kernel_vae import KernelVAE, initialise_vae
from dwp_kedro.training.loop import History, train
from dwp_kedro.training.objective import Objective
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.settings import Compute, Schedule

_ACTIVE_VARIANCE = 0.01  # of the encoder's mean over kernels (Burda et al. 2016, 5.2)
_CHUNK = 4096  # kernels evaluated at a time, which bounds memory


def collect_kernels(weights: Mapping[str, Mapping[str, Tensor]], group: KernelGroup) -> KernelTensor:
    """Collect a group's kernels from the weights of networks, given by name."""
    kernels, networks, layers, outputs, inputs = [], [], [], [], []
    for network, tensors in weights.items():
        for layer in group.layers:
            weight = tensors[f"{layer}.weight"]
            out_channels, in_channels = weight.shape[:2]
            count = out_channels * in_channels
            kernels.append(layer_kernels(weight))
            networks += [network] * count
            layers += [layer] * count
            outputs.append(torch.arange(out_channels).repeat_interleave(in_channels))
            inputs.append(torch.arange(in_channels).repeat(out_channels))
    stacked = torch.cat(kernels).float().view(-1, 3, 3, 3)
    return KernelTensor(stacked, networks, layers, torch.cat(outputs), torch.cat(inputs))


def smallest_norm(kernels: Tensor, min_norm: float) -> float:
    """Norm below which a kernel counts as zero: ``min_norm`` times the root mean square of kernels (n, 27)."""
    return min_norm * kernels.norm(dim=1).square().mean().sqrt().item()


class KernelObjective(Objective):
    """The negative ELBO of a kernel VAE, one latent sample per kernel; nats per kernel."""

    def __init__(self, vae: KernelVAE) -> None:
        super().__init__()
        self.vae = vae

    def settings(self) -> dict[str, Any]:
        """Form of the heads."""
        return {"literal_heads": self.vae.literal_heads}

    def forward(self, *batch: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Take kernels (batch, 27) of unit spread."""
        (kernels,) = batch
        noise = standard_normal((len(kernels), self.vae.latent_dim), generator, kernels)
        latent_kl, log_likelihood = vae_terms(self.vae, kernels, noise)
        loss = latent_kl.sum(1).mean() - log_likelihood.mean()
        return {"loss": loss, "data_term": loss.detach(), "latent_kl": latent_kl.detach().sum(1).mean()}


def learn_prior(
    kernels: Tensor,
    *,
    task: str,
    latent_dim: int,
    literal_heads: bool,
    batch_size: int,
    schedule: Schedule,
    seed: int,
    compute: Compute,
    gradient_norm: float | None = None,
) -> tuple[DeepWeightPrior, History]:
    """Fit a kernel VAE to kept kernels (n, 27), divided by their root mean square, which is the prior's scale."""
    scale = spread(kernels)
    vae = KernelVAE(latent_dim, literal_heads)
    initialise_vae(vae, make_generator(seed, "initial weights"))
    history = train(
        KernelObjective(vae),
        (kernels / scale,),
        task=task,
        batch_size=batch_size,
        schedule=schedule,
        gradient_norm=gradient_norm,
        seed=seed,
        compute=compute,
    )
    return DeepWeightPrior(vae.cpu(), scale), history


def fit_controls(kernels: Tensor, n_components: int) -> dict[str, FittedDensity]:
    """Fit what shows how much a VAE adds to kept kernels (n, 27), by kind of prior.

    Args:
        kernels: those that the VAE is fitted to.
        n_components: of the scale mixture.
    """
    return {"scale_mixture": fit_scale_mixture(kernels, n_components), "gaussian": fit_gaussian(kernels)}


@torch.no_grad()
def prior_metrics(
    prior: DeepWeightPrior,
    controls: Mapping[str, FittedDensity],
    kernels: Tensor,
    heldout: Tensor,
    n_samples: int = 16,
) -> dict[str, float]:
    """How well a prior describes kernels of networks it has not seen, beside densities that know less.

    All densities are of kernels of unit spread (27·log scale is the same for all and left out); nats per kernel.

    Args:
        prior: fitted to ``kernels``.
        controls: fitted to ``kernels``, by kind.
        kernels: kept kernels of the networks learnt from, (n, 27).
        heldout: kept kernels of other networks, (m, 27).
        n_samples: latent samples per kernel that the negative ELBO is averaged over.
    """
    generator = make_generator(0, "prior metrics")
    latent_kls, log_likelihoods, encoder_means = [], [], []
    for chunk in (heldout / prior.scale).split(_CHUNK):
        for _ in range(n_samples):
            noise = torch.randn(len(chunk), prior.vae.latent_dim, generator=generator)
            latent_kl, log_likelihood = vae_terms(prior.vae, chunk, noise)
            log_likelihoods.append(log_likelihood)
        latent_kls.append(latent_kl.sum(1))
        encoder_means.append(prior.vae.encode(chunk)[0])
    mean_latent_kl = torch.cat(latent_kls).mean()
    rivals = {"isotropic_gaussian": fit_scale_mixture(kernels, 1), **controls}
    log_volume = heldout.shape[1] * math.log(prior.scale)
    return {
        "heldout_nelbo": (mean_latent_kl - torch.cat(log_likelihoods).mean()).item(),
        **{f"{kind}_nll": -rival.log_prob(heldout).mean().item() - log_volume for kind, rival in rivals.items()},
        "heldout_latent_kl": mean_latent_kl.item(),
        "active_dims": float((torch.cat(encoder_means).var(0) > _ACTIVE_VARIANCE).sum().item()),
        "scale": prior.scale,
        "n_kernels": float(len(kernels)),
        "n_heldout_kernels": float(len(heldout)),
    }
