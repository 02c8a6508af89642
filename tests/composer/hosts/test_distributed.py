"""Hosts of frozen cells in several processes, and under collectives."""

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional as F

from batteries.errors import FrozenError
from composer import compose
from tests.compatibility import refused, works
from tests.support.cells import python
from tests.support.hosts import host, images, train

RANKS = """
import sys
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F
from batteries.errors import FrozenError
from tests.support.cells import from_model
from tests.support.hosts import SPEC, host, images

def learn(cells, rank):
    model = nn.parallel.DistributedDataParallel(host(cells, rank))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(3):
        optimiser.zero_grad()
        F.cross_entropy(model(images(seed=rank)), torch.arange(8) % 2).backward()
        optimiser.step()
    model.module.container.verify()
    mine = nn.utils.parameters_to_vector(model.parameters()).detach()
    both = [torch.empty(mine.shape) for _ in range(2)]
    distributed.all_gather(both, mine)
    assert torch.equal(*both)

def work(rank, path):
    distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    learn([from_model(SPEC, seed, str(seed)) for seed in (0, 1)], rank)
    other, refused = host([from_model(SPEC, seed + rank, str(seed)) for seed in (0, 1)]), False
    try:
        nn.parallel.DistributedDataParallel(other)
    except FrozenError:
        refused = True
    other.container.verify()
    assert refused == (rank == 1), (rank, refused)
    distributed.barrier()
    distributed.destroy_process_group()

torch.set_num_threads(1)
multiprocessing.start_processes(work, (sys.argv[1],), nprocs=2, start_method="fork")
"""


@pytest.mark.slow
@works("Hosts and their state", "DistributedDataParallel in two processes, which broadcasts buffers")
@refused("Hosts and their state", "DistributedDataParallel over processes that hold different cells", "FROZEN")
def test_two_processes(tmp_path):
    done = python(RANKS, tmp_path / "store", OMP_NUM_THREADS="1", timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.slow
@works("Hosts and their state", "DistributedDataParallel and collectives in one process")
@works("Hosts and their state", "DataParallel", note="on a machine without GPUs")
def test_one_process(cells, group):
    made = host(cells)
    train(made)
    parallel = nn.parallel.DistributedDataParallel(made)
    F.cross_entropy(parallel(images()), torch.arange(8) % 2).backward()
    assert torch.equal(nn.DataParallel(made)(images()), made(images()))
    for buffer in made.container.buffers():
        distributed.broadcast(buffer, 0)
        distributed.all_reduce(buffer)
        gathered = [torch.empty(buffer.shape)]
        distributed.all_gather(gathered, buffer)
        assert torch.equal(gathered[0], buffer)
    made.container.verify()


@refused("Hosts and their state", "other cells broadcast into a container", "FROZEN")
def test_a_collective_that_changes_a_number_is_refused(cells, group):
    container, others = compose(cells[:1]), compose(cells[1:2])
    for buffer, other in zip(container.buffers(), others.buffers(), strict=True):
        if not torch.equal(buffer, other):
            with pytest.raises(FrozenError, match="FROZEN"):
                distributed.all_gather([buffer], other)
    container.verify()
