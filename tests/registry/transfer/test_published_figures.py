"""Figures in manifests that ship, computed again by plain code that shares nothing with the package but the files.

The model is written out in float64, with torch's singular value decomposition; photographs are cut, simplices drawn and errors
clustered here.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

from batteries.cell.spec import CellSpec

REGISTRY = Path(__file__).parents[3] / "manifests"
PHOTOGRAPHS = Path(__file__).parents[3] / "batteries" / "photographs"
# fitted on crops of seed 0: of eight seeds, the mean of the training crops leaves 0.284 to 0.307, most for seed 6 (2.0.0)
FIRST = ["low/fresnel-64", "mid/fresnel-64", "high/fresnel-64@1.0.0"]
CELLS = [*FIRST, "high/fresnel-64"]
Z99 = 2.576


def parts(path):
    """Manifest and weights of a version, or of the newest one, straight from the files."""
    index = json.loads((REGISTRY / "index.json").read_text())
    path, _, version = path.partition("@")
    version = version or max(index["cells"][path])
    release = index["cells"][path][version]
    manifest = json.loads((REGISTRY / path / f"{version}.json").read_text())
    weights = load((REGISTRY / "blobs" / release["blob"]["sha256"]).read_bytes())
    return manifest, {name: tensor.double() for name, tensor in weights.items()}


def crops():
    """Six crops of each photograph (96, 3, 64, 64) in [-1, 1], at the places that the probe's seed gives."""
    rng, found = np.random.default_rng(6400), []
    for path in sorted(PHOTOGRAPHS.glob("*.png")):
        pixels = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)
        for _ in range(6):
            top, left = (int(rng.integers(side - 63)) for side in pixels.shape[1:])
            found.append(pixels[:, top : top + 64, left : left + 64])
    return torch.tensor(np.stack(found)).double() / 127.5 - 1


def norm(x, w, name):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def linear(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def block(x, w, name):
    return x + linear(gelu(linear(norm(x, w, f"{name}.0"), w, f"{name}.1")), w, f"{name}.3")


def attention(S, w, heads):
    B, N, D = S.shape
    q, k, v = (
        linear(norm(S, w, "cross_attn.0.norm"), w, "cross_attn.0.qkv").view(B, N, 3, heads, D // heads).permute(2, 0, 3, 1, 4)
    )
    mixed = (q @ k.mT / math.sqrt(D // heads)).softmax(-1) @ v
    change = torch.tanh(linear(mixed.transpose(1, 2).reshape(B, N, D), w, "cross_attn.0.out_proj"))
    return 1 + 0.2 * torch.sigmoid(w["cross_attn.0.alpha_logits"]) * change


def run(images, w, spec):
    """Matrices, singular values and reconstructions."""
    p, n = spec["patch_size"], 64 // spec["patch_size"]
    patches = images.view(-1, 3, n, p, n, p).permute(0, 2, 4, 1, 3, 5).reshape(-1, n * n, 3 * p * p)
    M = linear(block(gelu(linear(patches, w, "enc_in")), w, "enc_blocks.0"), w, "enc_out")
    M = M.view(-1, n * n, spec["V"], spec["D"])
    M = M / M.norm(dim=-1, keepdim=True)
    U, S, Vh = torch.linalg.svd(M, full_matrices=False)
    gated = U * (S * attention(S, w, spec["heads"]))[..., None, :] @ Vh
    out = linear(block(gelu(linear(gated.flatten(-2), w, "dec_in")), w, "dec_blocks.0"), w, "dec_out")
    out = out.view(-1, n, n, 3, p, p).permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, 64, 64)
    first, last = ((w[f"boundary_smooth.net.{i}.weight"], w[f"boundary_smooth.net.{i}.bias"]) for i in (0, 2))
    middle = gelu(torch.nn.functional.conv2d(out, *first, padding=1))
    return M, S, out + torch.nn.functional.conv2d(middle, *last, padding=1)


def clustered(values):
    """Mean of values (96, ...) and its standard error over 16 photographs of six crops."""
    means = np.asarray(values, dtype=float).reshape(16, -1).mean(axis=1)
    return means.mean(), means.std(ddof=1) / 4


def simplex_cv(M, rng, corrected):
    """CV of 4-simplices of three patches of every image, 1000 of five different rows each, jackknifed over rows or not."""
    cvs, V = [], M.shape[2]
    for image in M.numpy():
        for patch in rng.choice(len(image), 3, replace=False):
            rows = rng.random((1000, M.shape[2])).argpartition(5)[:, :5]
            points = image[patch][rows]
            edges = points[:, 1:] - points[:, :1]
            volumes = np.sqrt(np.abs(np.linalg.det(edges @ edges.transpose(0, 2, 1))))
            cvs.append(volumes.std(ddof=1) / volumes.mean())
            if corrected:
                without = [volumes[(rows != row).all(axis=1)] for row in range(V)]
                left_out = np.mean([some.std(ddof=1) / some.mean() for some in without])
                cvs[-1] = (V**2 * cvs[-1] - (V - 1) ** 2 * left_out) / (2 * V - 1)
    return clustered(cvs)


@pytest.fixture(scope="module")
def images():
    return crops()


@pytest.mark.slow
@pytest.mark.parametrize("path", CELLS)
def test_plain_code_finds_the_published_figures(images, path):
    manifest, weights = parts(path)
    spec, own = manifest["spec"], manifest["measured"]["photos-64"]
    M, S, recon = run(images, weights, spec)
    mse = (recon - images).square().mean(dim=(1, 2, 3)).numpy()
    share = S / S.sum(-1, keepdim=True)
    rank = torch.exp(-(share * share.log()).sum(-1)).numpy()
    found, names = {}, sorted(photo.stem for photo in PHOTOGRAPHS.glob("*.png"))
    found["mse"], found["mse error"] = clustered(mse)
    found["rank"], found["rank error"] = clustered(rank)
    found |= {f"S[{i}]": value for i, value in enumerate(S.mean(dim=(0, 1)).tolist())}
    found |= dict(zip(names, mse.reshape(16, 6).mean(axis=1), strict=True))
    claimed = {"mse": own["mse"]["value"], "mse error": own["mse"]["standard_error"]}
    claimed |= {"rank": own["effective_rank"]["value"], "rank error": own["effective_rank"]["standard_error"]}
    claimed |= {f"S[{i}]": value for i, value in enumerate(own["spectrum"])} | own["mse_by_group"]
    assert found == pytest.approx(claimed, rel=1e-3)
    assert float((M.norm(dim=-1) - 1).abs().max()) <= own["radius_error"] < 1e-6
    claim = own["cv"]
    cv, error = simplex_cv(M, np.random.default_rng(0), claim.get("corrected", False))
    assert abs(cv - claim["value"]) <= Z99 * math.hypot(error, claim["standard_error"])
    assert 0.5 < error / claim["standard_error"] < 2
    assert claim["ratio"] == pytest.approx(claim["value"] / sphere_cv(spec["D"]), rel=5e-3)


def sphere_cv(D):
    """CV of 4-simplices of uniform points, from a quarter of a million of them: its error is below 0.2%."""
    points = np.random.default_rng(1).standard_normal((250_000, 5, D))
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    edges = points[:, 1:] - points[:, :1]
    volumes = np.sqrt(np.abs(np.linalg.det(edges @ edges.transpose(0, 2, 1))))
    return volumes.std() / volumes.mean()


@pytest.mark.slow
@pytest.mark.parametrize("path", FIRST)
def test_the_mean_baseline_is_no_less_than_the_smallest_possible(images, path):
    manifest, _ = parts(path)
    p, n = manifest["spec"]["patch_size"], 64 // manifest["spec"]["patch_size"]
    patches = images.view(-1, 3, n, p, n, p).permute(0, 2, 4, 1, 3, 5).reshape(-1, 3 * p * p)
    floor = float((patches - patches.mean(0)).square().mean())
    baselines = manifest["measured"]["photos-64"]["baselines"]
    assert floor <= baselines["mean"] <= 1.1 * floor  # of other photographs, whose mean is another
    spec = manifest["spec"]
    assert baselines["pca_k"] == min(spec["hidden"], spec["V"] * (spec["D"] - 1), 3 * p * p)
    s = torch.linalg.svdvals(patches - patches.mean(0))
    best = float(s[spec["D"] :].square().sum() / patches.numel())
    assert best <= baselines["pca_width"] <= 3 * best
    assert CellSpec(**spec).parameters == sum(t.numel() for t in parts(path)[1].values())
