"""Where a process computes: devices, precision, sums over one process, and signals."""

import os
import signal
import threading

import pytest
import torch

from kinema.engine.runtime import has_native_bf16, runtime
from kinema.engine.session import stop_signals
from kinema.errors import KinemaError


def test_alone_a_process_is_the_main_one():
    with runtime(device="cpu", threads=1) as place:
        assert (place.rank, place.world, place.is_main) == (0, 1, True)
        assert place.device == torch.device("cpu")
        assert torch.get_num_threads() == 1
        assert place.sum(1.5, 2) == (1.5, 2)
        assert place.gather({"a": 1}) == [{"a": 1}]
        place.barrier()


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_precision_is_that_of_matrix_products(precision, dtype):
    with runtime(device="cpu", precision=precision) as place:
        assert place.dtype is dtype
        with place.autocast():
            product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype is (dtype or torch.float32)
    assert product.float().tolist() == [[2, 2], [2, 2]]


def test_automatic_precision_is_bf16_only_where_the_machine_has_it():
    with runtime(device="cpu") as place:
        native = has_native_bf16(torch.device("cpu"))
        assert place.dtype is (torch.bfloat16 if native else None)


@pytest.mark.parametrize(
    ("device", "message"),
    [("gpu", r"Unknown device 'gpu': choose auto, cpu, cuda or cuda:N"), ("cpu:x", "Unknown")],
)
def test_unknown_devices_are_errors(device, message):
    with pytest.raises(KinemaError, match=message), runtime(device=device):
        pass


def test_a_missing_accelerator_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with (
        pytest.raises(KinemaError, match=r"'cuda:1' is asked for, but torch sees no CUDA device"),
        runtime(device="cuda:1"),
    ):
        pass
    with runtime(device="auto") as place:
        assert place.device.type == "cpu"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_noted_and_their_handlers_put_back(number):
    before = signal.getsignal(number)
    with stop_signals() as stop:
        assert stop.name == ""
        os.kill(os.getpid(), number)
        assert stop.name == signal.Signals(number).name
    assert signal.getsignal(number) is before


def test_other_threads_leave_the_signals_alone():
    names = []

    def work():
        with stop_signals() as stop:
            names.append((stop.name, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join()
    assert names == [("", before)]
