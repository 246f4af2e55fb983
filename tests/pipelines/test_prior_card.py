from __future__ import annotations

from typing import Any

import pytest

from dwp_kedro.networks.checkpoint import CheckpointError
from dwp_kedro.pipelines.prior_card import KernelsCard


@pytest.fixture
def card() -> dict[str, Any]:
    return {
        "format": "dwp-kedro kernels 1",
        "source_cohort": {
            "name": "strokes",
            "description": "Made up.",
            "licence": "CC0-1.0",
            "n_subjects": 9,
            "channels": 1,
            "classes": ["foreground"],
            "n_networks": 4,
            "restarted": True,
            "l2": 0.001,
        },
        "versions": {"torch": "2"},
    }


def test_a_card_comes_back_the_same(card: dict[str, Any]):
    assert KernelsCard.read(card).model_dump() == card


def test_all_that_is_wrong_is_said_at_once(card: dict[str, Any]):
    card["format"] = "something else"
    del card["source_cohort"]["licence"]
    card["source_cohort"] |= {"n_networks": 0, "n_subjects": [9], "patients": ["somebody"]}
    with pytest.raises(CheckpointError) as caught:
        KernelsCard.read(card)
    assert str(caught.value).split("; ") == [
        "format is 'something else': Input should be 'dwp-kedro kernels 1'",
        "source_cohort.licence is missing",
        "source_cohort.n_subjects is '[9]': Input should be a valid integer",
        "source_cohort.n_networks is '0': Input should be greater than or equal to 1",
        "source_cohort.patients is unknown",
    ]


@pytest.mark.parametrize("content", [[], "card", None])
def test_what_is_no_card_is_refused(content: Any):
    with pytest.raises(CheckpointError, match="the card is "):
        KernelsCard.read(content)
