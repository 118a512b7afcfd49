import json
from dataclasses import replace

import pytest

from flc_udp.cli.main import main
from flc_udp.core.causal import Causal
from flc_udp.sim.figures import SimFigures
from flc_udp.sim.plan import Plan
from flc_udp.sim.play import Play
from flc_udp.sim.violation import Violation


def flc_sim(*words: str) -> int:
    """Run the command as the command line does."""
    return main(["sim", *words])


def test_json_has_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object, in the order of the table, with the trace's hash last."""
    assert flc_sim("--nodes", "3", "--seconds", "2", "--loss", "5", "--json") == 0

    record = json.loads(capsys.readouterr().out)
    assert list(record) == list(SimFigures._fields)
    assert record["messages"] > 10
    assert record["copies_per_node"] >= 1
    assert record["causes_bytes_p50"] >= 0
    assert len(record["trace"]) == 32


def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """A line a figure; the hash is the last word."""
    assert flc_sim("--nodes", "3", "--seconds", "1") == 0

    out, err = capsys.readouterr()
    assert len(out.splitlines()) == len(SimFigures._fields)
    assert out.splitlines()[-1].split()[0] == "trace"
    assert err == ""


def test_silence_has_no_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody speaks there is nothing to measure, and that is no error."""
    assert flc_sim("--nodes", "2", "--rate", "0", "--seconds", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["latency_p50_ms"] is None


def test_the_trace_is_one_aligned_line_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, a column a node, and what happened; datagrams are told by what they carry."""
    assert flc_sim("--nodes", "3", "--seconds", "1", "--trace") == 0

    heading, *lines = capsys.readouterr().err.splitlines()
    assert heading == "     time ms  abc"
    assert all(line[12:14] == "  " and line[17:19] == "  " for line in lines)
    assert any("ping" in line for line in lines)
    assert any("S" in line[14:17] and "says in" in line for line in lines)


def test_a_broken_promise_prints_how_to_play_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the last lines, what was broken, and the command with all that matters."""
    monkeypatch.setattr(Causal, "causes_of_next", lambda *_: {})
    words = ["--nodes", "5", "--loss", "25", "--seconds", "5", "--rate", "100", "--seed", "1"]
    assert flc_sim(*words) == 1

    *lines, error, hint = capsys.readouterr().err.splitlines()
    assert lines[0] == "     time ms  abcde"
    assert error.startswith("error: ")
    assert "which its author had been shown" in error
    assert hint == (
        "hint: replay with flc sim --nodes 5 --loss 25 --duplicate 0 --seconds 5 --rate 100"
        " --authors 0 --warm-up 0 --delay 2 --busy 0 --faults none --seed 1"
    )


def test_what_is_drawn_is_replaced_by_what_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that plays it again names all that was drawn, and needs no --draw."""
    monkeypatch.setattr(Play, "run", lambda play: raise_plan(play.plan))
    assert flc_sim("--draw", "--seed", "7", "--loss", "3") == 1
    hint = capsys.readouterr().err.splitlines()[-1]
    assert hint == f"hint: replay with {replace(Plan.draw(7), loss=3).command()}"
    assert flc_sim(*hint.split()[5:]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == hint


def raise_plan(plan: Plan) -> None:
    """Break off before anything is played."""
    raise Violation(plan.command())


def test_plans_are_drawn_within_their_bounds() -> None:
    """Two to thirty nodes and one to five hundred messages a second, not both at once."""
    plans = [Plan.draw(seed) for seed in range(500)]
    assert {plan.faults for plan in plans} == {"all"}
    assert (min(plan.nodes for plan in plans), max(plan.nodes for plan in plans)) == (2, 30)
    assert min(plan.rate for plan in plans) == 1
    assert 400 < max(plan.rate for plan in plans) <= 500
    assert max(plan.rate * plan.nodes for plan in plans) < 3_000


def test_one_author_is_one_log(capsys: pytest.CaptureFixture[str]) -> None:
    """With --authors 1 nobody else speaks or replies: no message has a cause but its log's own."""
    assert flc_sim("--nodes", "4", "--seconds", "5", "--authors", "1", "--json") == 0
    alone = json.loads(capsys.readouterr().out)

    assert alone["messages"] > 20
    assert alone["causes_bytes_p50"] == 0
    assert 1 <= alone["copies_per_node"] < 2
    assert 0 <= alone["repaired_percent"] < 20


@pytest.mark.parametrize("words", [["--loss", "99"], ["--nodes", "0"], ["--seed", "x"]])
def test_numbers_out_of_range_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line says what is allowed."""
    with pytest.raises(SystemExit):
        flc_sim(*words)
    assert "is not a number from" in capsys.readouterr().err
