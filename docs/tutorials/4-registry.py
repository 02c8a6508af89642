# %% [markdown]
# # A registry of your own, on the Hub
#
# Publish cells to a repository of the Hugging Face Hub, pull them on another machine, pin them, and withdraw one.
#
# A registry is a folder with an index, or a repository with the same files. Commands and functions take both:
# `./registry`, or `hf://owner/repo`. You need a [token](../hub.md) that may write (`hf auth login`, or `HF_TOKEN`), and
# your own name in place of `me`.
#
# ## Something to publish
#
# A cell of your own, such as that of [the tutorial before](2-train.ipynb); here, to be quick, one of few steps.

# %% [bash]
# batteries train high/mine-64 --noise --steps 20 --batch 4 --optimiser muon --json > trained.json

# %% [markdown]
# ## Create and publish
#
# A first publish creates the repository, which is then public; to have a private one, create it before. The command
# `hf` came with this package. `publish` measures every figure of the manifest again and refuses what the weights do not
# have; what it takes is published in one commit.

# %% [bash]
# hf repos create me/cells --private --exist-ok > created.txt

# %%
import registry

published = registry.publish("high/mine-64.safetensors", "hf://me/cells")
str(published.reference), published.number

# %% [markdown]
# The shell says `batteries publish high/mine-64.safetensors --to hf://me/cells`. Published versions never change. A
# second publish of the same bytes is no error and does nothing; other bytes under the same version are refused:

# %%
registry.publish("high/mine-64.safetensors", "hf://me/cells").new

# %% [markdown]
# ## Browse and pull
#
# From any machine that may read the repository. What is pulled is compared with its digest, byte by byte, and cached.

# %% [bash]
# batteries list --registry hf://me/cells

# %%
(cell,) = registry.pull("high/mine-64", registry="hf://me/cells")
cell.origin

# %% [markdown]
# With `BATTERIES_REGISTRY=hf://me/cells`, or in `config.toml`, it is the registry in force, and the option is not
# needed. The repository's page on the Hub is a model card with a table of the cells.
#
# ## Pin
#
# A lock file has exact versions and digests. `pull --locked` fetches those bytes or fails, from any registry that has
# them.

# %% [bash]
# batteries lock high/mine-64 --registry hf://me/cells --out cells.lock
# batteries pull --locked cells.lock --out locked
# ls locked/high

# %% [markdown]
# ## Withdraw
#
# A version is never removed, for others may have pinned it; it is yanked, with a reason. Patterns and ranges then pass
# over it; who names it exactly gets it with a warning.

# %% [bash]
# batteries yank high/mine-64@1.0.0 --reason 'twenty steps only' --registry hf://me/cells
# batteries list --registry hf://me/cells

# %% [markdown]
# ## Keep a copy, and check it
#
# A mirror copies everything that the index lists, and verifies it; `verify` checks a registry from its index to its
# attestations.

# %% [bash]
# batteries mirror hf://me/cells ./copy
# batteries verify --all --registry ./copy

# %% [markdown]
# A registry that goes back to an older index, or changes a published version, is refused from then on. Tokens, proxies,
# offline work and CI: [The Hub, its environment, and lock files](../hub.md).
