"""The parameter gradient_norm reaches every training; without it, none is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from kedro.io import DataCatalog

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.pipelines.prior_learning.nodes import learn_group
from dwp_kedro.pipelines.source_training.nodes import take_snapshots, train_network
from dwp_kedro.pipelines.target_evaluation.cell import Cell, train_cell

Train = Callable[[DataCatalog, float | None], Checkpoint]


def block(catalog: DataCatalog, name: str, gradient_norm: float | None) -> Any:
    return catalog.load(f"params:{name}").model_copy(update={"gradient_norm": gradient_norm})


def source_inputs(catalog: DataCatalog, gradient_norm: float | None) -> dict[str, Any]:
    return {
        "volumes": catalog.load("data_processing.source.volumes"),
        "subjects": catalog.load("data_processing.source.subjects"),
        "cohort": catalog.load("params:data_processing.source"),
        "training": block(catalog, "source_training", gradient_norm),
        "network": catalog.load("params:network"),
        "compute": catalog.load("params:compute"),
    }


def source_network(catalog: DataCatalog, gradient_norm: float | None) -> Checkpoint:
    return train_network(**source_inputs(catalog, gradient_norm), index=1, sample="bootstrap")[0]


def snapshots(catalog: DataCatalog, gradient_norm: float | None) -> Checkpoint:
    start = catalog.load("source_training.whole_0.checkpoint")
    return take_snapshots(start, **source_inputs(catalog, gradient_norm), index=0)[0]


def kernel_vae(catalog: DataCatalog, gradient_norm: float | None) -> Checkpoint:
    return learn_group(
        catalog.load("prior_learning.group_2.kernels"),
        block(catalog, "prior_learning", gradient_norm),
        catalog.load("params:compute"),
        kernel_groups(UNet3D(), in_channels=1)[1],
    )[0]


def cell(catalog: DataCatalog, gradient_norm: float | None) -> Checkpoint:
    return train_cell(
        catalog.load("data_processing.target.volumes"),
        catalog.load("data_processing.target.subjects"),
        catalog.load("data_processing.splits"),
        catalog.load("params:data_processing.target"),
        catalog.load("params:methods.dwp"),
        block(catalog, "target_training", gradient_norm),
        catalog.load("params:network"),
        catalog.load("params:compute"),
        Cell("dwp", n_train=2, split=1, seed=0),
        prior=catalog.load("prior_learning.prior"),
    )[0]


@pytest.mark.parametrize(
    ("train", "finished"),
    [
        (source_network, "source_training.network_1.checkpoint"),
        (snapshots, "source_training.whole_0.source_posterior"),
        (kernel_vae, "prior_learning.group_2.checkpoint"),
        (cell, "target_evaluation.dwp.n2_split1_seed0.checkpoint"),
    ],
)
def test_the_largest_norm_is_that_of_the_block(catalog: DataCatalog, train: Train, finished: str):
    expected = catalog.load(finished).weights
    for norm, is_the_same in ((None, True), (1e9, True), (1e-6, False)):
        found = train(catalog, norm).weights
        assert found.keys() == expected.keys()
        same = [name for name, tensor in expected.items() if torch.equal(tensor, found[name])]
        assert (len(same) == len(expected)) is is_the_same, norm
