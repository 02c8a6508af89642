"""Many processes at once: what each of them does, and how to start them together."""

import contextlib
import multiprocessing
import os

import registry
from batteries.errors import BatteriesError
from batteries.io import atomic_files
from tests.support import cells


def start(work, tasks):
    """Run ``work(*task)`` for every task in a process of its own, all at once; what each returned, in order."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.crowd_worker", "batteries.network.transport", "registry.stores.hub"])
    with context.Manager() as manager:
        ready, found = manager.Barrier(len(tasks)), manager.dict()
        processes = [
            context.Process(target=_run, args=(work, task, n, ready, found), daemon=True) for n, task in enumerate(tasks)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            assert process.exitcode == 0
        return [found[n] for n in range(len(tasks))]


def _run(work, task, n, ready, found):
    ready.wait()
    found[n] = work(*task)


def pull(references, address, environment, locked):
    """Digests of what was pulled, or the error."""
    os.environ.update(environment)
    if not locked:
        atomic_files.lock = lambda path, seconds, access: contextlib.nullcontext()
    try:
        return [cell.digest for cell in registry.pull(*references, registry=address)]
    except BatteriesError as error:
        return str(error)


def publish(versions, seed, address, environment):
    """What became of each version: ``new``, or the code of the error."""
    os.environ.update(environment)
    outcomes = {}
    for name, version in versions:
        try:
            cells.publish(cells.tiny(name, version, seed=seed), address)
            outcomes[name, version] = "new"
        except BatteriesError as error:
            outcomes[name, version] = error.code
    return outcomes
