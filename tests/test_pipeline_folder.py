"""What a run folder remembers, and the lines that it writes down."""

import shlex
import sys
import time

import pytest

from kinema.errors import KinemaError
from kinema.files import read_json
from kinema.run_folder import (
    Clock,
    command_line,
    finished_results,
    has_settings,
    keep_settings,
    own_command,
    peak_memory_bytes,
    same_settings,
)

SETTINGS = {"data": "/videos", "rule": {"seed": 0, "test_groups": ()}, "recipe": "tiny"}


def test_a_clock_adds_up_over_starts_and_failures(tmp_path):
    path = tmp_path / "seconds.json"
    for _ in range(2):
        clock = Clock(path, stopped=False)
        with pytest.raises(KeyboardInterrupt), clock.step("flow"):
            time.sleep(0.02)
            raise KeyboardInterrupt
    assert 0.04 <= read_json(path)["flow"] < 2
    stopped = Clock(path, stopped=True)
    with stopped.step("flow"):
        time.sleep(0.02)
    assert stopped.seconds == read_json(path) == clock.seconds


def test_a_clock_makes_no_folder(tmp_path):
    with Clock(tmp_path / "run" / "seconds.json", stopped=False).step("index"):
        pass
    assert not (tmp_path / "run").exists()


def test_settings_are_the_same_or_not(tmp_path):
    assert not has_settings(tmp_path)
    assert not same_settings(tmp_path, SETTINGS, fixed=("data", "rule"))
    keep_settings(tmp_path, SETTINGS)
    assert has_settings(tmp_path)
    assert same_settings(tmp_path, SETTINGS, fixed=("data", "rule"))
    other_recipe = {**SETTINGS, "recipe": "tsn"}
    assert not same_settings(tmp_path, other_recipe, fixed=("data", "rule"))
    with pytest.raises(KinemaError, match="holds a run with recipe=tiny instead of tsn: choose"):
        same_settings(tmp_path, other_recipe, fixed=("recipe",))
    for rule, message in (
        ({"seed": 3, "test_groups": ()}, "with seed=0 instead of 3"),
        ({"seed": 0, "test_groups": ("a", "b")}, r"with test_groups=\(none\) instead of a,b"),
    ):
        with pytest.raises(KinemaError, match=message):
            same_settings(tmp_path, {**SETTINGS, "rule": rule}, fixed=("data", "rule"))


def test_results_of_a_run_that_is_not_finished(tmp_path):
    assert finished_results(tmp_path) == {}


def test_commands_can_be_typed_as_they_are():
    options = {"test_fraction": 0.2, "group": "", "seed": 0}
    line = command_line("index", "my videos", "-o", "x", options=options)
    assert line == "kinema index 'my videos' -o x --test-fraction 0.2 --seed 0"
    assert shlex.split(line)[2] == "my videos"


def test_the_own_command_is_known_only_on_the_command_line(monkeypatch):
    for program, expected in (
        ("/opt/bin/kinema", "kinema run 'a b'"),
        ("/lib/kinema/__main__.py", "kinema run 'a b'"),
        ("/lib/pytest/__main__.py", ""),
        ("", ""),
    ):
        monkeypatch.setattr(sys, "argv", [program, "run", "a b"])
        assert own_command() == expected


def test_peak_memory_is_that_of_a_python_process():
    assert 1e7 < peak_memory_bytes() < 1e11
