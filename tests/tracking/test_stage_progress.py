from __future__ import annotations

import pytest
from kedro.pipeline import node
from kedro.pipeline.node import Node

from dwp_kedro.tracking.stage_progress import StageCount, StageProgress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def cells(n: int, name: str = "train") -> list[Node]:
    return [
        node(len, "a", f"{name}_{i}", name=name, namespace=f"grid.cell_{i}", tags=["stage.grid_cell", "n5"])
        for i in range(n)
    ]


def run(progress: StageProgress, clock: Clock, node: Node, seconds: float) -> StageCount:
    progress.begin(node)
    clock.now += seconds
    count = progress.end(node, failed=False)
    assert count is not None
    return count


def test_time_left_is_from_the_mean_of_what_is_done_and_not_of_what_came_in_between():
    clock = Clock()
    train = cells(8)
    progress = StageProgress([*train, node(len, "a", "b", name="other")], clock)
    run(progress, clock, train[0], 60)
    clock.now += 1000
    count = run(progress, clock, train[1], 120)
    assert (count.name, count.count(), count.seconds_left()) == ("grid cells (train)", "2/8", 6 * 90)


def test_nodes_at_the_same_time_share_it():
    clock = Clock()
    train = cells(8)
    progress = StageProgress(train, clock)
    progress.begin(train[0])
    clock.now += 10
    progress.begin(train[1])
    progress.begin(train[0])  # each of its inputs says so
    clock.now += 20
    progress.end(train[0], failed=False)
    count = progress.end(train[1], failed=False)
    assert count is not None
    assert count.seconds_left() == pytest.approx(3 * 30)


def test_each_node_of_a_unit_and_only_what_succeeds_is_counted():
    clock = Clock()
    train, score = cells(2), cells(2, "score")
    progress = StageProgress([*train, *score], clock)
    assert run(progress, clock, train[0], 1).count() == "1/2"
    progress.begin(score[0])
    failed = progress.end(score[0], failed=True)
    assert failed is not None
    assert (failed.name, failed.count(), failed.running) == ("grid cells (score)", "0/2", set())


def test_nodes_of_no_stage_have_no_count():
    lone = node(len, "a", "b", name="lone")
    progress = StageProgress([lone])
    assert progress.begin(lone) is None
    assert progress.end(lone, failed=False) is None
