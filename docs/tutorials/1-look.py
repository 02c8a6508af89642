# %% [markdown]
# # Pull, encode and look
#
# Fetch three trained cells, run photographs through them, and look at what comes out: the rows on the sphere, the omega
# tokens, the reconstruction. No knowledge of the field is needed, only of torch.
#
# ## What there is
#
# A registry ships with the package, so that nothing has to be downloaded.

# %% [bash]
# batteries list '*/fresnel-64'

# %% [markdown]
# A name is `band/name`, here with its newest version. The band says how wide a row of the cell is: 16, 8 or 4 numbers
# for *low*, *mid* and *high*. *MSE* is the mean squared error of the cell's reconstructions of photographs in [-1, 1]
# that it was never trained on.
#
# ## Pull
#
# `registry.pull` takes names and returns cells, in that order. Every byte is compared with its digest first.

# %%
from pathlib import Path

import torch

import batteries
import composer
import registry

cells = registry.pull("low/fresnel-64", "mid/fresnel-64", "high/fresnel-64")
cells[2]

# %% [markdown]
# In a notebook the last line shows a card with the cell's figures and reconstructions instead.
#
# ## Encode
#
# Your images go in as files: paths, globs, arrays, PIL images. Sixteen photographs come with the package. `cell=` sets
# what the cell expects (channels, scale, multiples of its patch).

# %%
folder = Path(batteries.__file__).parent / "photographs"
files = [folder / f"{name}.png" for name in ("astronaut", "chelsea", "coffee", "rocket")]
images = batteries.images.load(files, cell=cells[0], fit="crop", size=64)
images.shape, float(images.min()), float(images.max())

# %% [markdown]
# A cell is weights and a manifest; `PatchSVAE.from_cell` makes a `torch.nn.Module` of it.

# %%
high = batteries.PatchSVAE.from_cell(cells[2])
with torch.no_grad():
    out = high(images)
{name: tuple(getattr(out, name).shape) for name in ("M", "S", "omega", "recon")}

# %% [markdown]
# The axes: 4 images, 256 patches of 4 by 4 pixels, and of each patch
#
# - `M`, a matrix of V = 32 rows of D = 4 numbers, each row of length 1: 32 points on a sphere;
# - `S`, the D singular values of M, and `omega`, the same after the patches of an image have looked at each other: the
#   **tokens**;
# - `recon`, the image that the decoder makes of M and omega.
#
# ## Look
#
# The rows are on the sphere:

# %%
out.M.norm(dim=-1).aminmax()

# %% [markdown]
# The reconstructions, with the original first and then low, mid and high. *High* has more numbers a patch than pixels
# and loses next to nothing; *low* squeezes 768 numbers into 16 tokens and the directions of M.

# %%
from PIL import Image

composer.reconstruct(cells, files, "grid.png", fit="crop", size=64)
Image.open("grid.png")

# %% [markdown]
# Omega as a picture: the largest of the four tokens of each patch of the cat, one pixel a patch.

# %%
largest = out.omega[1, :, 0].reshape(16, 16)
grey = (255 * (largest - largest.min()) / (largest.max() - largest.min())).byte()
Image.fromarray(grey.numpy()).resize((256, 256), Image.Resampling.NEAREST)

# %% [markdown]
# ## What the CV says, and what it does not
#
# The figure that names a band is the *CV* of the rows: how unevenly their simplices fill space. It is known exactly for
# uniform rows ([what it is](../concepts/cv.md)), and cells end near it. So does a cell that was never trained:

# %%
untrained = batteries.untrained(cells[2].spec, seed=0)
rows = []
for name, model in (("trained", high), ("untrained", untrained)):
    with torch.no_grad():
        found = model(images)
    M = found.M.flatten(0, 1)
    image = torch.arange(len(images)).repeat_interleave(256)
    cv = batteries.geometry.axial_cv(M, image)
    error = float((found.recon - images).square().mean())
    rows.append((name, round(cv.value, 3), round(error, 6)))
print(f"exact for uniform rows: {batteries.geometry.sphere_cv(4):.3f}")
print(*rows, sep="\n")

# %% [markdown]
# The CV hardly tells the two apart, the error does. That is why a cell is judged by a [test of many
# figures](../concepts/viability.md).
#
# ## Keep the tokens
#
# `composer.encode` runs cells over any number of images in bounded memory and writes a file; see [Running cells over
# images](../encoding.md).

# %%
encoded = composer.encode(cells, files, "tokens.npz", tokens=("omega",), fit="crop", size=64)
import numpy

arrays = numpy.load("tokens.npz")
{name: arrays[name].shape for name in arrays if name.endswith("omega")}

# %% [markdown]
# The same from a shell:

# %% [bash]
# package=$(python -c 'import batteries, pathlib; print(pathlib.Path(batteries.__file__).parent)')
# batteries encode low/fresnel-64 "$package"/photographs/c*.png --fit crop --size 64 --out more.npz
# ls *.npz

# %% [markdown]
# Next: [train on your own pictures](2-train.ipynb).
