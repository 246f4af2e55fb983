from __future__ import annotations

from dwp_kedro.tracking.curves import CurveListener, Point


def test_points_are_sent_in_batches_and_none_is_lost():
    now = [0.0]
    batches: list[list[Point]] = []
    listener = CurveListener(batches.append, clock=lambda: now[0])
    for step in range(1000):
        listener.on_metrics({"loss": float(step), "kl": -1.0}, step)
        now[0] += 0.01
    listener.flush()
    listener.flush()
    # 10 s of steps: one batch after 5 s, the rest at the end; an empty buffer sends nothing.
    assert len(batches) == 2
    points = [point for batch in batches for point in batch]
    assert [(point.step, point.value) for point in points if point.name == "loss"] == [
        (step, step) for step in range(1000)
    ]
    assert len(points) == 2000
