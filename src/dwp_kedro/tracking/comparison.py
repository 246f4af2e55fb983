"""The lines that end a run: where its results can be looked at."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from dwp_kedro.tracking.catalog import path_in
from dwp_kedro.tracking.command import shell_name

COMPARED_BY = "compared_by"
"""Tag of the runs of a grouped view: the parent run that made it."""

SHARED_VIEW = "mlflow.sharedViewState."
"""Start of the experiment tags in which MLflow keeps views that an address can name."""

_LOCAL_UI = "http://127.0.0.1:5000"
_GROUPED_METRICS = ("test_dsc_mean", "test_iou_mean", "test_hd95_mean", "train_seconds")


def comparison_url(base_url: str, experiment_id: str, run_ids: list[str]) -> str:
    """Return the address of MLflow's charts of these runs, best test DSC first.

    MLflow's page that compares runs side by side would show other metrics at first.
    """
    wanted = ", ".join(f"'{run_id}'" for run_id in run_ids)
    query = {
        "searchFilter": f"attributes.run_id IN ({wanted})",
        "orderByKey": "metrics.`test_dsc_mean`",
        "orderByAsc": "false",
        "compareRunsMode": "CHART",
    }
    return f"{base_url.rstrip('/')}/#/experiments/{experiment_id}/runs?{urlencode(query, quote_via=quote)}"


def grouped_view(parent: str, methods: Iterable[str]) -> dict[str, Any]:
    """Return the state of MLflow's table of runs that has a row per method, the average of its runs, best first.

    Shown are the runs tagged ``COMPARED_BY`` with ``parent``; those of a method are folded away. The keys are
    those of the states that MLflow's own interface shares (``ExperimentPageUIState`` and
    ``ExperimentPageSearchFacetsState`` in its code).
    """
    return {
        "searchFilter": f"tags.{COMPARED_BY} = '{parent}'",
        "orderByKey": "metrics.`test_dsc_mean`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "selectedColumns": [f"metrics.`{metric}`" for metric in _GROUPED_METRICS],
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": "method"}]},
        "groupsExpanded": {f"param.method.{method}": False for method in sorted(methods)},
        "runsHiddenMode": "SHOW_ALL",
    }


def grouped_url(base_url: str, experiment_id: str, view: str) -> str:
    """Return the address of the experiment's runs in the state that the tag ``SHARED_VIEW`` + ``view`` keeps.

    >>> grouped_url("http://127.0.0.1:5000/", "1", "n5")
    'http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=n5'
    """
    query = urlencode({"viewStateShareKey": view}, quote_via=quote)
    return f"{base_url.rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"


def closing_lines(
    *,
    tracking_uri: str,
    experiment_id: str,
    project_path: Path,
    options: str,
    n_train: int | None,
    run_ids: list[str],
    view: str | None,
    report: Path | None,
) -> list[str]:
    """Return the lines that open report, Kedro-Viz, MLflow, and its comparison of methods at ``n_train``.

    Args:
        tracking_uri: MLflow's database or server.
        experiment_id: the environment's experiment.
        project_path: folder that the commands are typed in; paths are shown relative to it.
        options: of the run, those that other commands need too, each with a space before it.
        n_train: smallest train size of the run's grid cells; None if it had none.
        run_ids: MLflow runs of the cells at ``n_train``.
        view: name of their grouped view, where methods have several runs each; None where one run says it all.
        report: the report's file, if the run has one.
    """
    is_server = tracking_uri.startswith(("http://", "https://"))
    base_url = tracking_uri if is_server else _LOCAL_UI
    lines = []
    if report is not None:
        lines.append(f"Report:     {path_in(project_path, report)}")
    lines.append(f"Kedro-Viz:  {shell_name('kedro', project_path)} viz run{options}")
    if is_server:
        lines.append(f"MLflow:     {base_url.rstrip('/')}/#/experiments/{experiment_id}")
    else:
        store = tracking_uri.replace(f"{project_path.as_posix()}/", "")
        program = shell_name("mlflow", project_path)
        lines.append(f"MLflow:     {program} ui --backend-store-uri {shlex.quote(store)} --port 5000")
    if run_ids:
        address = (
            comparison_url(base_url, experiment_id, run_ids)
            if view is None
            else grouped_url(base_url, experiment_id, view)
        )
        lines.append(f"Which method wins at n = {n_train}?  {address}")
    return lines
