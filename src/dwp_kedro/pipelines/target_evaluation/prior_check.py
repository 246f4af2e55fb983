"""The hook that refuses a prior which cannot be read, or does not fit, before anything runs."""

from __future__ import annotations

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.network_prior import NetworkPrior, unpack_prior
from dwp_kedro.cohorts.readers import list_subjects
from dwp_kedro.networks.checkpoint import CheckpointError
from dwp_kedro.parameters import (
    CohortParameters,
    CsvReader,
    MethodParameters,
    NetworkParameters,
    PhantomReader,
    TargetTrainingParameters,
)
from dwp_kedro.pipelines.architectures import new_architecture
from dwp_kedro.pipelines.prior_card import PriorCard
from dwp_kedro.pipelines.target_evaluation.cell import Cell, start_component

_RECEIVED = "received_prior"
_PRIORS = (_RECEIVED, "prior_learning.prior")
_METHOD = "params:methods."


class PriorFitHook:
    """Reads the prior of the run, and starts every method that takes something from a received one, untrained."""

    @hook_impl(tryfirst=True)  # before a run is opened in MLflow, and after the check that the file exists
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Check the prior, and a received one against the methods whose cells are in the run.

        Raises:
            CheckpointError: if it is no prior, or does not fit; the message names the file, methods, groups and
                tensors.
        """
        for name in _PRIORS:
            if name not in pipeline.inputs() or not catalog.exists(name):
                continue
            path = getattr(catalog.get(name), "_filepath", name)
            try:
                prior = unpack_prior(catalog.load(name))
                card = _read_card(prior)
            except (CheckpointError, DatasetError) as error:
                again = "\nAsk whoever gave it to you for it again." if name == _RECEIVED else ""
                raise CheckpointError(f"the prior {path} cannot be used: {error}{again}") from error
            if name == _RECEIVED:
                _require_fit(prior, card, path, pipeline, catalog)


def _read_card(prior: NetworkPrior) -> PriorCard:
    try:
        return PriorCard.read(prior.card)
    except CheckpointError as error:
        raise CheckpointError(f"in its card, {error}") from error


def _require_fit(
    prior: NetworkPrior, card: PriorCard, path: object, pipeline: Pipeline, catalog: CatalogProtocol
) -> None:
    names = {
        name
        for node in pipeline.nodes
        if _RECEIVED in node.inputs
        for name in node.inputs
        if name.startswith(_METHOD)
    }
    if not names:
        return
    methods = {name.removeprefix(_METHOD): catalog.load(name) for name in sorted(names)}
    cohort, network = catalog.load("params:data_processing.target"), catalog.load("params:network")
    problems = find_misfits(prior, methods, cohort, catalog.load("params:target_training"), network)
    if problems:
        raise CheckpointError(
            "\n".join(
                [
                    f"the prior {path} does not fit this run:",
                    *(f"  {line}" for problem in problems for line in problem.splitlines()),
                    _described(card),
                    f"This run has the widths {list(network.channels)} and the classes "
                    f"{', '.join(cohort.class_names)}.",
                    "Ask its owner for another file, set network and cohort accordingly, or leave these methods "
                    "out of grid.methods.",
                ]
            )
        )


def find_misfits(
    prior: NetworkPrior,
    methods: dict[str, MethodParameters],
    cohort: CohortParameters,
    training: TargetTrainingParameters,
    network: NetworkParameters,
) -> list[str]:
    """Say which methods cannot start under a received prior, and why; nothing if all can."""
    from_source = any(method.start == "source" for method in methods.values())
    n_channels = _count_channels(cohort) if from_source else 1  # a prior per kernel fits any number
    problems = []
    for name, method in methods.items():
        if method.start == "source" and method.components > 1:
            problems.append(
                f"method '{name}': its {method.components} components start from source networks of their own; a "
                "prior file carries one at most"
            )
        start = new_architecture(method.network, n_channels, len(cohort.class_names) + 1, network.channels, seed=0)
        try:
            if set(method.priors) - {"standard_normal", "source_posterior"} or method.start == "prior":
                prior.require_same_places(kernel_groups(start, n_channels))
            start_component(
                start,
                n_channels,
                method,
                training.overridden(method.target_training),
                prior,
                {},
                Cell(name, n_train=1, split=0, seed=0),
                0,
                1,
            )
        except ValueError as error:  # of which CheckpointError is one
            said = f"method '{name}'"
            problems.append(f"{said}: {str(error).removeprefix(said).lstrip()}")
    return problems


def _count_channels(cohort: CohortParameters) -> int:
    reader = cohort.reader
    if isinstance(reader, PhantomReader):
        return 1
    if isinstance(reader, CsvReader):
        return len(list_subjects(reader)[0].images)
    return len(reader.channels)


def _described(card: PriorCard) -> str:
    source = card.source_cohort
    return (
        f"It was made by networks of widths {card.architecture.channels} from {source.channels} channel(s), for "
        f"the classes {', '.join(source.classes)}; of the network, it carries "
        f"{'weights' if card.carries_source_network else 'nothing'}"
        f"{' and snapshots' if card.carries_source_posterior else ''}."
    )
