"""A prior's card as a page of Markdown."""

from __future__ import annotations

import hashlib

from dwp_kedro.pipelines.prior_card import GROUP_FIGURES, PriorCard, SourceFacts

_NETWORK_RISK = (
    " It carries the whole weights of a network trained on the source scans; model inversion and membership "
    "inference are known attacks on such weights."
)


def card_page(card: PriorCard, content: bytes) -> str:
    """Return the page of a prior whose file has these bytes."""
    carried = [
        name
        for name, is_carried in (
            ("the weights of one source network", card.carries_source_network),
            ("snapshots of its weights", card.carries_source_posterior),
        )
        if is_carried
    ]
    paragraphs = [
        f"# {card.title}",
        "A prior over the 3×3×3 kernels of a segmentation network: per kernel group one variational autoencoder, "
        "and as controls a Gaussian and a scale mixture. dwp-kedro uses it with `prior: FILE.safetensors` in an "
        "environment's `globals.yml`.",
        _table(
            ("", ""),
            [
                (
                    "made for",
                    f"{card.architecture.network}; learnt at widths {card.architecture.channels}, fits others",
                ),
                ("carries", " and ".join(carried) or "no source network"),
                ("networks learnt from", str(card.n_networks_learnt_from)),
                ("networks held out", str(card.n_networks_held_out)),
                ("licence", card.licence),
                ("sha256", f"`{hashlib.sha256(content).hexdigest()}`"),
                ("size", f"{len(content):,} bytes"),
            ],
        ),
        "## From what",
        *map(_source, card.sources),
        "## How well it describes kernels of networks that it did not see",
        "Negative log-likelihood in nats per kernel of unit spread; lower is better. A restart is learnt from, or "
        "held out, together with its network.",
        _table(
            ("group", "place", *GROUP_FIGURES.values()),
            [
                (name, group.label, *(f"{getattr(group.figures, figure):.4g}" for figure in GROUP_FIGURES))
                for name, group in card.groups.items()
            ],
        ),
        "## Made with",
        ", ".join(f"{name} {version}" for name, version in card.versions.items()),
        "## What it can reveal",
        "It holds no scan and names no subject or file. That does not show that nothing about the subjects behind "
        "it can be inferred: there is no guarantee of differential privacy."
        + (_NETWORK_RISK if carried else "")
        + " The page docs/priors.md of dwp-kedro says more.",
    ]
    return "\n\n".join(paragraphs) + "\n"


def _source(source: SourceFacts) -> str:
    restarts = " and their restarts" if source.restarted else ""
    return (
        f"**{source.name}.** {source.description} {source.n_subjects} subjects, {source.channels} "
        f"channel(s), classes: {', '.join(source.classes)}. {source.n_networks} networks{restarts}, "
        f"L2 penalty {source.l2:g}. Licence: {source.licence}."
    )


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
