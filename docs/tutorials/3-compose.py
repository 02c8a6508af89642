# %% [markdown]
# # Compose a hundred cells, and put a host around them
#
# Put a hundred cells into one frozen module, train a network around it in two processes, keep an average of its
# weights, and export the whole.
#
# ## A hundred cells
#
# Eleven cells of two specs ship for the bands *low* and *mid*. This page uses each of them several times, under a name
# of its own; with a shelf of a hundred different ones nothing else changes.

# %%
import itertools

import torch

import batteries
import composer
import registry

shipped = registry.pull("low/*", "mid/*")
hundred = {f"{cell.name}-{number}": cell for number, cell in enumerate(itertools.islice(itertools.cycle(shipped), 100))}
model = composer.compose(hundred)
print(model.explain((64, 64)))

# %% [markdown]
# Cells of one spec run as one batched product. `composer.compose(hundred, probe=images)` would also fit a map for each
# cell, by which all tokens are in one frame ([alignment](../concepts/alignment.md)); a host that learns does not need
# it.

# %%
images, types = batteries.noise.random_batch(16, (64, 64), seed=0)
out = model(images)
out.error.shape, [*model][:2]

# %% [markdown]
# The container is frozen: it has no parameters, its buffers cannot be written, and gradients pass through it to the
# images.

# %%
len(list(model.parameters())), model.cells("mid/*")

# %% [markdown]
# ## A host
#
# A host is any module that calls a container. This one reads omega, its mean and spread over the patches, of every
# cell, and names which of sixteen types of noise an image of 32 x 32 pixels is. `composer.Classifier` and
# `composer.Denoiser` are hosts that also learn a stem in front of the cells, through which the gradient passes.

# %%
from pathlib import Path

_ = Path("hundred.py").write_text("""
import itertools

import torch
from torch import nn

import batteries
import composer
import registry


class Host(nn.Module):
    def __init__(self, container, sample, classes=16):
        super().__init__()
        self.container = container
        found = self.features(sample)
        self.register_buffer("mean", found.mean(0))
        self.register_buffer("spread", found.std(0) + 1e-6)
        self.read = nn.Sequential(nn.Linear(found.shape[1], 64), nn.GELU(), nn.Linear(64, classes))

    def features(self, images):
        omega = self.container(images, taps=("omega",)).omega  # per cell (B, patches, D)
        return torch.cat([part for one in omega for part in (one.mean(1), one.std(1))], dim=1)

    def forward(self, images):
        return self.read((self.features(images) - self.mean) / self.spread)


def host():
    shipped = registry.pull("low/*", "mid/*")
    cells = {f"{cell.name}-{n}": cell for n, cell in enumerate(itertools.islice(itertools.cycle(shipped), 100))}
    sample, _ = batteries.noise.random_batch(32, (32, 32), seed=0)
    return Host(composer.compose(cells), sample)
""")

# %%
import sys

sys.path.insert(0, "")
import hundred

host = hundred.host()
sum(parameter.numel() for parameter in host.parameters()), sum(tensor.nbytes for tensor in host.state_dict().values())

# %% [markdown]
# Parameters, and bytes of the state: less than a hundredth of the 93 MB of the hundred cells, for a host's state has
# the digests of its cells in place of their weights. Other cells are refused when it is loaded.
#
# ## Two processes, and an average
#
# A script for `torchrun`, as for any module; `AveragedModel` keeps the moving average (EMA).

# %%
_ = Path("learn.py").write_text("""
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import batteries
import hundred

distributed.init_process_group("gloo")
rank = distributed.get_rank()
torch.manual_seed(0)
host = hundred.host()
parallel = DistributedDataParallel(host)
average = AveragedModel(host, multi_avg_fn=get_ema_multi_avg_fn(0.8))
optimiser = torch.optim.Adam(host.parameters(), lr=3e-3)
for step in range(20):
    images, types = batteries.noise.random_batch(16, (32, 32), seed=2 * step + rank + 1)
    loss = torch.nn.functional.cross_entropy(parallel(images), types)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    average.update_parameters(host)
    if rank == 0 and step % 5 == 4:
        print(f"step {step + 1}: loss {loss.item():.2f}", flush=True)

host.container.verify()  # not a bit of the cells has changed
if rank == 0:
    torch.save(average.module.state_dict(), "host.pt")
distributed.destroy_process_group()
""")

# %% [bash]
# OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node=2 learn.py
# ls host.pt

# %% [markdown]
# ## Load, test, export
#
# The state goes into a host around the same cells.

# %%
host.eval()
host.load_state_dict(torch.load("host.pt", weights_only=True))
images, types = batteries.noise.random_batch(64, (32, 32), seed=1000)
with torch.no_grad():
    named = host(images).argmax(-1)
print(f"named rightly: {(named == types).float().mean():.2f}; by chance: {1 / 16:.2f}")

# %% [markdown]
# The host with its cells is one exported program, which runs without this package's Python.

# %%
program = torch.export.export(host, (images[:8],))
with torch.no_grad():
    difference = (program.module()(images[:8]) - host(images[:8])).abs().max()
print(f"largest difference of the exported program: {difference:.1e}")

# %% [markdown]
# And a composition alone is one file, with the digests of everything in it:

# %%
composer.save(model, "hundred.safetensors")
again = composer.load("hundred.safetensors")
torch.equal(again(images[:2]).error, model(images[:2]).error)

# %% [markdown]
# Relays, routes and wiring as data: [Composing cells](../composing.md). Does the host's gradient reach its blocks?
# [Audit](../audit.md). Next: [a registry of your own](4-registry.ipynb).
