"""The live picture of a training: what it keeps, what it shows, and that it shows nothing where it must not."""

from __future__ import annotations

import pytest

from inside_bert import Watch, training


@pytest.fixture
def shown(monkeypatch):
    """What would have gone to the notebook, in order."""
    log = []
    monkeypatch.setattr(training, "clear_output", lambda wait=False: log.append("clear"))
    monkeypatch.setattr(training, "display", lambda figure: log.append(type(figure).__name__))
    return log


def test_history_keeps_every_value_in_order(shown):
    with Watch(3) as watch:
        for step in range(3):
            watch(loss=3 - step, accuracy=step / 10)
    assert watch.history == {"loss": [3.0, 2.0, 1.0], "accuracy": [0.0, 0.1, 0.2]}
    assert watch.done == 3


def test_it_draws_while_it_runs_and_leaves_nothing(shown, monkeypatch, capsys):
    monkeypatch.setenv("INSIDE_BERT_LIVE", "yes")
    with Watch(4, levels={"unigram": 2.0}, pause=0) as watch:
        for step in range(4):
            watch(loss=step)
    assert shown == ["clear", "Figure"] * 4 + ["clear"]
    assert "100%" in capsys.readouterr().out


def test_it_draws_no_more_often_than_the_pause_allows(shown, monkeypatch):
    monkeypatch.setenv("INSIDE_BERT_LIVE", "")
    with Watch(100, pause=3600) as watch:
        for step in range(100):
            watch(loss=step)
    assert shown == []  # and nothing that the cell printed is taken away


@pytest.mark.parametrize("word", ["no", "0", "off", "False"])
def test_it_can_be_switched_off(shown, monkeypatch, capsys, word):
    monkeypatch.setenv("INSIDE_BERT_LIVE", word)
    with Watch(2, pause=0) as watch:
        watch(loss=1.0)
        watch(loss=0.5)
    assert shown == [] and capsys.readouterr().out == ""
    assert watch.history["loss"] == [1.0, 0.5]


def test_after_an_interruption_the_last_picture_stays(shown, monkeypatch):
    monkeypatch.setenv("INSIDE_BERT_LIVE", "yes")
    with pytest.raises(KeyboardInterrupt), Watch(2, pause=0) as watch:
        watch(loss=1.0)
        raise KeyboardInterrupt
    assert shown == ["clear", "Figure"]


def test_the_line_says_share_time_left_and_values():
    watch = Watch(10)
    watch._began -= 5  # as if it had begun five seconds ago
    for _ in range(5):
        watch(loss=0.25)
    line = watch.line()
    assert " 50%" in line and "5 s left" in line and "loss 0.250" in line
    assert line.count("█") == 15 and line.count("░") == 15


def test_the_tests_themselves_run_without_live_pictures():
    assert not Watch(1).live


@pytest.mark.parametrize("steps", [0, -3])
def test_a_run_without_steps_is_refused(steps):
    with pytest.raises(ValueError, match="at least 1"):
        Watch(steps)
