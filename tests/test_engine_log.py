"""What a training writes down: one line per epoch, whatever happened in between."""

import errno

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kinema.engine.log import RunLog, read_metrics
from kinema.errors import KinemaError


def write_epochs(folder, epochs, *, first=0, factor=1.0):
    log = RunLog(folder, first_epoch=first)
    for epoch in epochs:
        log.write({"epoch": epoch, "step": 3 * epoch, "train_loss": factor / (epoch + 1)})
    log.close()


def test_lines_are_read_back(tmp_path):
    write_epochs(tmp_path, range(3))
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"epoch": e, "step": 3 * e, "train_loss": 1 / (e + 1)} for e in range(3)
    ]
    assert read_metrics(tmp_path / "absent.jsonl") == []


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_last_line_that_was_cut_short_is_left_out(tmp_path, cut):
    write_epochs(tmp_path, range(3))
    path = tmp_path / "metrics.jsonl"
    text = path.read_text()
    path.write_text(text[: -1 - cut])
    assert [line["epoch"] for line in read_metrics(path)] == [0, 1]
    write_epochs(tmp_path, [2], first=2)
    assert path.read_text() == text


def test_lines_of_epochs_that_are_done_again_are_dropped(tmp_path):
    write_epochs(tmp_path, range(5))
    write_epochs(tmp_path, range(2, 4), first=2, factor=2.0)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]
    assert [line["train_loss"] for line in lines] == [1, 1 / 2, 2 / 3, 2 / 4]


def test_the_lines_before_are_there_before_the_first_new_one(tmp_path):
    write_epochs(tmp_path, range(3))
    RunLog(tmp_path, first_epoch=1).close()
    assert [line["epoch"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [0]


def test_tensorboard_shows_every_epoch_once(tmp_path):
    write_epochs(tmp_path, range(4))
    write_epochs(tmp_path, range(2, 5), first=2, factor=2.0)
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert board.Tags()["scalars"] == ["train_loss"]
    events = {event.step: event.value for event in board.Scalars("train_loss")}
    assert events == pytest.approx({0: 1, 1: 1 / 2, 2: 2 / 3, 3: 2 / 4, 4: 2 / 5})


def test_a_full_disk_is_one_sentence_and_loses_no_line(tmp_path, monkeypatch):
    log = RunLog(tmp_path, first_epoch=0)
    log.write({"epoch": 0, "loss": 1.0})
    before = (tmp_path / "metrics.jsonl").read_text()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(KinemaError, match=r"No space left.*metrics\.jsonl: the file was not"):
            log.write({"epoch": 1, "loss": 0.5})
    assert (tmp_path / "metrics.jsonl").read_text() == before
    monkeypatch.setattr(log._board, "add_scalar", full)
    with pytest.raises(KinemaError, match=r"Cannot write TensorBoard's events in .*No space left"):
        log.write({"epoch": 1, "loss": 0.5})
    log.close()
