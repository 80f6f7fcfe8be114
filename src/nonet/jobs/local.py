"""Tasks in processes of this machine."""

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool

from nonet.jobs.gpus import count_gpus
from nonet.jobs.tasks import MAX_DEATHS, Needs, Outcome, Task, call, environment_of, lost, outcome_of, pack
from nonet.stopping import end_processes
from nonet.workers import Workers


class LocalEngine:
    """Runs each task in one of a few processes, which are replaced when they die.

    Parameters
    ----------
    num_slots : int
        How many tasks run at a time.
    """

    def __init__(self, num_slots: int = 1):
        self.num_slots = max(1, num_slots)

    def run(self, tasks: Sequence[Task], needs: Needs) -> Generator[Outcome, None, None]:
        """Run tasks; see `Engine`."""
        waiting = deque((task, 0) for task in tasks)
        slots = [_Slot(number, needs) for number in range(min(self.num_slots, len(tasks)))]
        free = list(slots)
        running: dict[Future, tuple[_Slot, Task, int]] = {}
        try:
            while waiting or running:
                while waiting and free:
                    task, deaths = waiting.popleft()
                    slot = free.pop(0)
                    running[slot.submit(task)] = slot, task, deaths
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    slot, task, deaths = running.pop(future)
                    free.append(slot)
                    try:
                        yield outcome_of(task, future.result())
                    except BrokenProcessPool:
                        slot.restart()
                        if deaths + 1 < MAX_DEATHS:
                            waiting.appendleft((task, deaths + 1))
                        else:
                            yield lost(task, "its process died again")
            for slot in slots:
                slot.pool.shutdown()  # not stopped: what a process has started itself is to end in order
        finally:
            end_processes([process for slot in slots for process in slot.pool.processes])  # a training saves its state
            for slot in slots:
                slot.pool.stop()

    def has_gpus(self) -> bool:
        """Whether this machine has GPUs."""
        return count_gpus() > 0


class _Slot:
    """A process that runs one task after another, with its share of the machine."""

    def __init__(self, number: int, needs: Needs):
        first = number * needs.devices
        devices = _visible_devices()[first : first + needs.devices] if needs.devices else None
        self.environment = environment_of(needs.processors, devices)
        self.pool = Workers(1)

    def submit(self, task: Task) -> Future:
        return self.pool.submit(call, pack(task), self.environment)

    def restart(self) -> None:
        self.pool.stop()
        self.pool = Workers(1)


def _visible_devices() -> list[int]:
    """Return the numbers of the GPUs that this process may use; where none are named, all from 0 on."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [int(number) for number in named.split(",")] if named else list(range(256))
