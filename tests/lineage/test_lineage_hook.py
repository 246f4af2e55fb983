"""What a run names as out of date, makes anew, keeps, or refuses; on pipelines of a few text files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.pipeline import Pipeline, node
from kedro.runner import ThreadRunner

from dwp_kedro.lineage.declare import depends_on, reads_files
from dwp_kedro.tracking.lineage_hook import OutOfDateError


def join(*values: Any) -> str:
    return "+".join(map(str, values))


def first_word(words: str, letter: str) -> str:
    return words.split()[0] + letter


CELLS = [node(join, ["prior", "params:training", f"params:{name}"], f"{name}.scores", name=name) for name in "ab"]
CHAIN = Pipeline(
    [
        node(join, ["scans", "params:spacing"], "volumes", name="prepare"),
        node(join, ["volumes", "params:latent"], "prior", name="learn"),
        *CELLS,
        node(join, ["a.scores", "b.scores"], "scores", name="collect"),
        node(join, ["scores", "params:title"], "report", name="report"),
    ]
)
PARAMETERS = {"spacing": 1, "latent": 6, "training": {"steps": 4, "rate": 0.1}, "a": 1, "b": 2, "title": "t"}


@pytest.fixture
def finished(make_project: Callable[..., Any]) -> Any:
    project = make_project(CHAIN, **PARAMETERS)
    project.path("scans").write_text("scans")
    assert project.run() == {n.name for n in CHAIN.nodes}
    return project


def test_a_finished_run_has_nothing_to_do(finished: Any, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert finished.run() == set()
    assert "date" not in capsys.readouterr().out


def test_a_changed_parameter_makes_what_depends_on_it_anew_and_nothing_else(
    finished: Any, capsys: pytest.CaptureFixture[str]
):
    finished.parameters["a"] = 3
    assert finished.run() == {"a", "collect", "report"}
    training = "scans+1+6+{'steps': 4, 'rate': 0.1}"
    assert finished.text("report") == f"{training}+3+{training}+2+t"
    printed = capsys.readouterr().out
    assert "Out of date, made anew by this run:\n  parameter a: 1 → 3:\n    a.scores\n  and 2 more" in printed
    assert finished.run() == set()


def test_values_within_a_parameter_are_named(finished: Any, capsys: pytest.CaptureFixture[str]):
    finished.parameters["training"] = {"steps": 4, "rate": 0.2, "decay": None}
    assert finished.run() == {"a", "b", "collect", "report"}
    printed = capsys.readouterr().out
    assert "parameter training.rate: 0.1 → 0.2:\n    a.scores, b.scores" in printed
    assert "parameter training.decay: absent → null" in printed


def test_nothing_is_deleted_before_it_is_replaced(finished: Any):
    finished.parameters |= {"latent": 7, "training": None}
    del finished.parameters["b"]
    with pytest.raises(Exception, match="b"):
        finished.run()
    assert finished.path("b.scores").exists()
    assert finished.path("report").exists()


def test_changed_content_from_outside_counts_and_a_touch_does_not(
    finished: Any, capsys: pytest.CaptureFixture[str]
):
    os.utime(finished.path("scans"), (1000, 1000))
    assert finished.run() == set()
    marks = finished.record("prepare")["read"]["scans"][""]
    assert marks[2] == 1000 * 10**9  # so that it need not be read again
    finished.path("scans").write_text("scanz")
    assert len(finished.run()) == 6
    assert "scans: the file has changed:\n    volumes" in capsys.readouterr().out


def test_what_is_put_away_for_a_while_is_remembered(finished: Any):
    scans = finished.path("scans")
    scans.rename(finished.folder / "archive")
    os.utime(finished.path("volumes"), (1000, 1000))  # so that its record is written again
    assert finished.run() == set()
    assert finished.run(Pipeline(CELLS)) == set()
    scans.write_text("others")
    assert len(finished.run()) == 6
    finished.path("volumes").unlink()
    os.utime(finished.path("prior"), (1000, 1000))
    assert finished.run(Pipeline(CELLS)) == set()
    finished.parameters["spacing"] = 3
    with pytest.raises(OutOfDateError, match=r"parameter spacing: 1 → 3:\n    volumes"):
        finished.run(Pipeline(CELLS))
    finished.parameters["spacing"] = 1
    finished.path("volumes").write_text("others")
    with pytest.raises(OutOfDateError, match="volumes: the file has changed since it was written"):
        finished.run(Pipeline(CELLS))


def test_a_file_with_its_times_set_back_is_noticed(finished: Any):
    path = finished.path("scans")
    times = path.stat()
    path.write_text("SCANS")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len(finished.run()) == 6


def test_a_file_changed_by_hand_is_named_and_made_anew(finished: Any, capsys: pytest.CaptureFixture[str]):
    before = finished.text("prior")
    finished.path("prior").write_text("better")
    assert finished.run() == {"learn", "a", "b", "collect", "report"}
    assert "prior: the file has changed since it was written" in capsys.readouterr().out
    assert finished.text("prior") == before


def test_what_was_lost_and_comes_back_the_same_leaves_the_rest(finished: Any):
    finished.path("volumes").unlink()
    assert finished.run() == {"prepare"}


def test_what_was_lost_and_comes_back_otherwise_stops_the_run(make_project: Callable[..., Any]):
    calls: list[int] = []

    def count() -> str:
        calls.append(1)
        return str(len(calls))

    project = make_project(Pipeline([node(count, None, "one", name="n"), node(join, "one", "two", name="m")]))
    project.run()
    project.path("one").unlink()
    with pytest.raises(OutOfDateError, match="came out otherwise than before:\n  one\n"):
        project.run()
    assert project.run() == {"m"}
    assert project.text("two") == "2"


def test_a_training_that_was_lost_takes_along_what_depends_on_it(make_project: Callable[..., Any]):
    training = node(join, "params:a", "net", name="train", tags="stage.cell")
    project = make_project(Pipeline([training, node(join, "net", "scores", name="score")]), a=1)
    project.run()
    project.path("net").unlink()
    assert project.run() == {"train", "score"}


@pytest.mark.parametrize("resumes", [False, True])
def test_what_the_run_reads_and_does_not_make_is_refused_with_cause_and_command(finished: Any, resumes: bool):
    finished.parameters["latent"] = 8
    with pytest.raises(OutOfDateError) as caught:
        finished.run(Pipeline(CELLS), resumes=resumes)
    assert re.sub(r"\S*/kedro run", "kedro run", str(caught.value)).splitlines() == [
        "This run would read what is out of date:",
        "  prior",
        "because",
        "  parameter latent: 6 → 8:",
        "    prior",
        "Make it anew first:",
        "  kedro run --only-missing-outputs --to-outputs prior --env big --params n.m=1",
    ]
    assert finished.run(CHAIN.to_outputs("prior")) == {"learn"}
    assert finished.run(Pipeline(CELLS), resumes=resumes) == {"a", "b"}


def test_a_cause_further_up_refuses_too(finished: Any):
    finished.parameters["spacing"] = 2
    with pytest.raises(OutOfDateError, match=r"parameter spacing: 1 → 2:\n    volumes"):
        finished.run(Pipeline(CELLS[:1]))


def test_a_run_of_a_part_says_what_it_leaves_out_of_date(finished: Any, capsys: pytest.CaptureFixture[str]):
    finished.parameters["a"] = 5
    assert finished.run(Pipeline(CELLS[:1]), resumes=False) == {"a"}
    printed = capsys.readouterr().out
    assert "Out of date now, and not in this run:\n  scores\n  report\n" in printed
    assert finished.run() == {"collect", "report"}


def test_a_new_input_of_a_summary_makes_it_anew(finished: Any):
    third = node(join, "params:a", "c.scores", name="c")
    collect = node(join, ["a.scores", "b.scores", "c.scores"], "scores", name="collect")
    kept = [n for n in CHAIN.nodes if n.name != "collect"]
    finished.whole = Pipeline([*kept, third, collect])
    assert finished.run() == {"c", "collect", "report"}


def test_results_without_a_record_are_refused_unless_taken_once(finished: Any, capsys: pytest.CaptureFixture[str]):
    for record in (finished.folder / "lineage").iterdir():
        record.unlink()
    before = finished.text("report")
    for chosen, resumes, options in (
        (CHAIN, True, "--only-missing-outputs"),
        (Pipeline(CELLS), True, "--only-missing-outputs --pipelines a_part"),
        (Pipeline(CELLS), False, "--pipelines a_part"),
    ):
        with pytest.raises(OutOfDateError, match="Nothing is recorded") as caught:
            finished.run(chosen, resumes=resumes)
        assert f"kedro run {options} --env big --params n.m=1,accept=unrecorded\n" in str(caught.value)
    assert finished.text("report") == before
    assert finished.run(accept="unrecorded") == set()
    assert "Taken as they are, and recorded (accept=unrecorded):\n  volumes\n  prior" in capsys.readouterr().out
    assert finished.run() == set()
    finished.parameters["b"] = 0
    assert finished.run() == {"b", "collect", "report"}


def test_only_what_was_accepted_is_taken(finished: Any):
    finished.parameters["a"] = 7
    assert finished.run(accept="code") == {"a", "collect", "report"}
    (finished.folder / "lineage" / "b.json").unlink()
    with pytest.raises(OutOfDateError, match="recorded"):
        finished.run(accept="code")


def test_changed_code_alone_can_be_taken_as_it_is(finished: Any):
    path = finished.folder / "lineage" / "learn.json"
    text = path.read_text()
    assert '"code":{"test_lineage_hook":"' in text
    path.write_text(text.replace('"code":{"test_lineage_hook":"', '"code":{"test_lineage_hook":"0'))
    with pytest.raises(OutOfDateError, match=r"code of test_lineage_hook(?s:.*)--params n\.m=1,accept=code"):
        finished.run(Pipeline(CELLS))
    assert finished.run(accept="code") == set()
    assert finished.run() == set()


def test_a_node_that_was_killed_runs_again(finished: Any, capsys: pytest.CaptureFixture[str]):
    class KilledError(BaseException):
        pass

    def killed(*values: Any) -> str:
        raise KilledError

    [cell] = [n for n in CELLS if n.name == "a"]
    with pytest.raises(KilledError):
        finished.run(Pipeline([node(killed, cell.inputs, cell.outputs, name="a")]), resumes=False)
    capsys.readouterr()
    assert finished.run() == {"a", "collect", "report"}
    assert "their making was cut short:\n    a.scores" in capsys.readouterr().out


def test_a_record_that_is_none_is_named(finished: Any):
    (finished.folder / "lineage" / "a.json").write_text("{}")
    with pytest.raises(Exception, match=r"a\.json is not a record that this version wrote\. Delete it"):
        finished.run()


def test_an_output_in_memory_hands_on_what_it_was_made_of(make_project: Callable[..., Any]):
    nodes = [
        node(join, "params:a", "drawn", name="draw"),
        node(join, ["drawn", "params:b"], "page", name="write"),
    ]
    project = make_project(Pipeline(nodes), a=1, b=2)
    project.datasets["drawn"] = {"type": "MemoryDataset"}
    assert project.run() == {"draw", "write"}
    assert project.run() == set()
    project.parameters["a"] = 3
    assert project.run() == {"draw", "write"}
    project.parameters["b"] = 3
    assert project.run() == {"draw", "write"}


def test_a_folder_of_files_counts_by_its_content(make_project: Callable[..., Any]):
    split = node(lambda text: {"x/one": text[0], "two": text[1]}, "params:text", "parts", name="split")
    count = node(lambda parts: str(sorted(parts)), "parts", "table", name="count")
    project = make_project(Pipeline([split, count]), text="ab")
    folder = project.folder / "parts"
    partitions = {"type": "partitions.PartitionedDataset", "path": str(folder), "dataset": "text.TextDataset"}
    project.datasets["parts"] = {**partitions, "filename_suffix": ".txt"}
    project.run()
    (folder / ".hidden.txt").write_text("left behind")
    (folder / "notes.md").write_text("of somebody")
    assert project.run() == set()
    (folder / "two.txt").write_text("c")
    assert project.run() == {"split", "count"}
    (folder / "x" / "one.txt").unlink()
    assert project.run() == {"split", "count"}


def test_only_the_declared_part_of_an_input_counts(make_project: Callable[..., Any]):
    @depends_on(words=lambda words: words.split()[0], letter=lambda letter: letter.lower())
    def one(words: str, letter: str) -> str:
        return first_word(words, letter)

    @depends_on(words=None)
    def gate(words: str, letter: str) -> str:
        return letter

    reading = node(one, ["words", "params:letter"], "first", name="one")
    settled = node(join, "params:words", "words", name="say", tags="settled_first")
    project = make_project(
        Pipeline(
            [
                settled,
                reading,
                node(gate, ["words", "params:letter"], "passed", name="gate"),
            ]
        ),
        words="split of five",
        letter="x",
    )
    assert project.run() >= {"one", "gate"}
    project.parameters |= {"words": "split of six", "letter": "X"}
    assert project.run() == {"gate"}  # `say` ran before Kedro was asked to run anything
    assert project.text("words") == "split of six"
    project.parameters |= {"words": "draw of six"}
    assert project.run() == {"one"}
    project.parameters |= {"words": "draw of ten"}
    assert project.run(Pipeline([reading])) == set()  # not refused, though `say` is not in this run
    assert project.text("words") == "draw of ten"


def test_files_that_a_node_reads_itself_count(make_project: Callable[..., Any]):
    project = make_project(Pipeline([]), place="scans")

    def files(place: str) -> dict[str, Path]:
        return {path.name: path for path in (project.folder / place).glob("*")}

    @reads_files(files)
    def read(place: str) -> str:
        (project.folder / place).mkdir(exist_ok=True)
        return join(*sorted(path.read_text() for path in (project.folder / place).iterdir()))

    project.whole = Pipeline([node(read, "params:place", "table", name="read")])
    (project.folder / "scans").mkdir()
    (project.folder / "scans" / "one").write_text("1")
    assert project.run() == {"read"}
    assert project.run() == set()
    (project.folder / "scans" / "two").write_text("2")
    assert project.run() == {"read"}
    (project.folder / "scans" / "one").unlink()
    assert project.run() == {"read"}
    (project.folder / "scans" / "two").unlink()
    assert project.run() == set()  # all is gone: nobody can tell, and nothing could be made of it


def test_threads_record_each_node(finished: Any):
    finished.parameters["training"] = {}
    assert finished.run(runner=ThreadRunner(max_workers=2)) == {"a", "b", "collect", "report"}
    assert finished.run() == set()


def test_nodes_of_other_pipelines_are_not_recorded(finished: Any):
    other = Pipeline([node(join, ["prior", "params:a"], "handed.over", name="export")])
    assert finished.run(other, resumes=False) == {"export"}
    assert not (finished.folder / "lineage" / "export.json").exists()
    finished.parameters["latent"] = 9
    with pytest.raises(OutOfDateError, match="prior"):
        finished.run(other, resumes=False)
