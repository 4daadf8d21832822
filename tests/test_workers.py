"""Jobs in processes: crashes cost one job; a script that cannot be started is told how to."""

import os
import signal
import subprocess
import sys

from kinema.workers import Workers


def square_or_die(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def test_a_job_that_kills_its_process_costs_only_itself():
    workers = Workers(square_or_die, give_up=lambda job, why: (job, why), processes=2)
    results = list(workers.run(range(6)))
    lost = [item for item in results if isinstance(item, tuple)]
    assert sorted(item for item in results if isinstance(item, int)) == [0, 1, 4, 16, 25]
    assert len(lost) == 1 and lost[0][0] == 3 and "died twice" in lost[0][1]


def test_a_script_without_a_main_part_is_told_so(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        "from kinema.workers import Workers\n"
        "list(Workers(abs, give_up=print, processes=1).run([1, 2]))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode != 0
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith("must be a file, with its own work below `if __name__ == '__main__':`.")
    )
    assert "died twice" not in done.stdout


def test_a_script_that_imports_torch_first_still_computes_with_one_thread(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        "import torch\n"
        "from kinema.workers import Workers\n"
        "def threads(_job):\n"
        "    return torch.get_num_threads()\n"
        "if __name__ == '__main__':\n"
        "    print(*Workers(threads, give_up=print, processes=1).run([1]))\n"
    )
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env={**free, "OMP_NUM_THREADS": "2"},
    )
    assert done.stdout.strip() == "1"
