"""Extraction on a Ray cluster: two machines, and what happens when one of them goes."""

import os
import time
from threading import Thread

import numpy as np
import pytest

from helpers_flow import make_jobs, moving, write_video
from kinema.errors import KinemaError
from kinema.flow import ray_pool
from kinema.flow.extract import FlowJob, FlowOptions, extract_flow, verify_flow
from kinema.flow.job import Outcome
from kinema.flow.store import FlowStore

FAST = FlowOptions(algorithm="dis-ultrafast")


class Deadly(FlowJob):
    """A job that ends every process that receives it."""

    def __reduce__(self):
        return os._exit, (3,)


def test_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    job = make_jobs(tmp_path, 1, num_frames=3)[0]
    with pytest.raises(
        KinemaError, match=r"needs Ray: install it with `pip install kinema\[ray\]`"
    ):
        extract_flow([job], tmp_path / "out", options=FAST, ray="auto")


@pytest.fixture(scope="module")
def cluster():
    """Two machines with one core each."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    made.shutdown()


@pytest.mark.slow
def test_no_cluster_at_the_address(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    job = make_jobs(tmp_path, 1, num_frames=3)[0]
    for address in ("auto", "127.0.0.1:9"):
        with pytest.raises(
            KinemaError, match=rf"no Ray cluster at '{address}'.*`ray start --head`"
        ):
            extract_flow([job], tmp_path / "out", options=FAST, ray=address)


@pytest.mark.slow
def test_two_machines_do_what_one_does(tmp_path, cluster, monkeypatch, capfd):
    jobs = make_jobs(tmp_path / "videos", 5)
    single = write_video(tmp_path / "single.mp4", moving(1, 0, 0))
    bad = [FlowJob(id="single", path=single), Deadly(id="deadly", path=single)]
    extract_flow(jobs, tmp_path / "here", options=FAST, workers=1)
    monkeypatch.chdir(tmp_path)  # paths of jobs may be relative
    there = [FlowJob(id=job.id, path=job.path.relative_to(tmp_path)) for job in jobs]
    out = tmp_path / "there"
    summary = extract_flow([*there, *bad], out, options=FAST, ray=cluster.address)
    assert "Ray: 2 machines, 2 cores" in capfd.readouterr().err
    assert (summary.videos, summary.pairs) == (5, sum(job.num_frames - 1 for job in jobs))
    failures = dict(summary.failures)
    assert "only one frame" in failures["single"]
    assert "died 3 times" in failures["deadly"]
    assert summary.shares.total > 0
    for job in jobs:
        here, other = (FlowStore(at / f"{job.id}.mp4") for at in (tmp_path / "here", out))
        indices = range(here.num_frames)
        assert np.array_equal(here.read(indices), other.read(indices))
    assert verify_flow(jobs, out) == ()
    assert extract_flow(jobs, out, options=FAST, ray=cluster.address).kept == 5


@pytest.mark.slow
def test_a_machine_that_goes_costs_nothing(tmp_path, cluster):
    """Its videos are done again on the other one."""
    import ray

    jobs = make_jobs(tmp_path / "videos", 10, num_frames=60)
    node = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    out = tmp_path / "out"

    def pull_the_plug():
        while not list(out.rglob("*.mp4")):
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)

    plug = Thread(target=pull_the_plug)
    plug.start()
    summary = extract_flow(jobs, out, options=FlowOptions(algorithm="dis"), ray=cluster.address)
    plug.join()
    assert summary.failures == ()
    assert summary.videos == 10
    assert not list(out.rglob(".*"))
    assert verify_flow(jobs, out) == ()
    assert not ray.is_initialized()


def test_an_error_in_the_program_is_not_hidden():
    """Only a task that died is an outcome; what the code raises stops the run."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    job = FlowJob(id="a", path=None)

    class Broken:
        exceptions = ray.exceptions

        @staticmethod
        def get(reference):
            raise reference

    died = ray_pool._outcome(Broken, ray.exceptions.WorkerCrashedError(), job)
    assert isinstance(died, Outcome)
    assert "died 3 times (The worker died unexpectedly" in died.failure
    with pytest.raises(ray.exceptions.RayTaskError):
        ray_pool._outcome(Broken, ray.exceptions.RayTaskError("f", "text", ValueError()), job)
