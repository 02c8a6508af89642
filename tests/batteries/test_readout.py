"""The read-out: its optimum beside another solver's, chance where there is nothing to learn, the same in any chunks."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from scipy.stats import binom

from batteries import CellSpec, readout, untrained
from batteries.errors import InputError
from batteries.noise import random_batch
from batteries.readout import PENALTY, ReadOut, fit, logistic_accuracy, name_noise, objective, omega_statistics

SPEC = CellSpec(V=12, D=4, patch_size=4, hidden=8)
CLASSES = 5


def clouds(seed, apart, n=400):
    """Gaussian clouds around the corners of a simplex, and their classes."""
    classes = torch.arange(n) % CLASSES
    features = torch.randn(n, CLASSES, generator=torch.Generator().manual_seed(seed))
    features[torch.arange(n), classes] += apart
    return features, classes


def test_planted_classes_are_told_apart():
    assert logistic_accuracy(clouds(0, 6.0), clouds(1, 6.0)) > 0.99


def test_scale_place_and_a_constant_feature_change_nothing():
    def elsewhere(part):
        features = part[0].double() * torch.logspace(-3, 3, CLASSES) + 7
        return torch.cat([features, torch.full((len(features), 1), 3.0)], dim=1), part[1]

    plain = logistic_accuracy(clouds(0, 1.5), clouds(1, 1.5))
    assert 0.4 < plain < 0.9
    assert logistic_accuracy(elsewhere(clouds(0, 1.5)), elsewhere(clouds(1, 1.5))) == pytest.approx(plain)


def test_shuffled_classes_are_named_by_chance():
    g = torch.Generator().manual_seed(2)
    (features, classes), (held_out, _) = clouds(0, 6.0), clouds(1, 6.0, n=1000)
    shuffled = classes[torch.randperm(len(classes), generator=g)]
    truth = torch.randint(CLASSES, (1000,), generator=g)  # whatever is answered, each is right with 1 / CLASSES
    right = round(1000 * logistic_accuracy((features, shuffled), (held_out, truth)))
    low, high = binom.interval(0.9999, 1000, 1 / CLASSES)
    assert low <= right <= high


def test_the_fit_is_the_optimum_and_that_of_another_solver():
    features, classes = clouds(0, 1.0)
    features = features.double()
    weights = fit(features, classes).requires_grad_()
    objective(weights, features, classes).backward()
    assert weights.grad.abs().max() < 1e-7

    X = np.hstack([features.numpy(), np.ones((len(features), 1))])
    T = np.eye(CLASSES)[classes.numpy()]
    free = np.array([1.0] * CLASSES + [0.0])[:, None]  # the intercepts' row is not penalised

    def loss_and_slope(flat):
        W = flat.reshape(CLASSES + 1, CLASSES)
        loss = np.mean(logsumexp(X @ W, axis=1) - (T * (X @ W)).sum(axis=1)) + PENALTY / 2 * (free * W**2).sum()
        return loss, (X.T @ (softmax(X @ W, axis=1) - T) / len(X) + PENALTY * free * W).ravel()

    other = minimize(loss_and_slope, np.zeros((CLASSES + 1) * CLASSES), jac=True, method="BFGS", options={"gtol": 1e-8})
    assert weights.detach().numpy() == pytest.approx(other.x.reshape(CLASSES + 1, CLASSES), abs=1e-5)


def test_the_slope_is_flat_at_the_end_however_the_features_are_correlated():
    g = torch.Generator().manual_seed(4)
    classes = torch.arange(800) % 16
    common = torch.randn(800, 1, generator=g, dtype=torch.float64)
    features = common + 0.03 * (torch.eye(16)[classes].repeat(1, 2) + torch.randn(800, 32, generator=g, dtype=torch.float64))
    features = (features - features.mean(dim=0)) / features.std(dim=0)
    assert torch.linalg.cond(features) > 100
    weights = fit(features, classes).requires_grad_()
    objective(weights, features, classes).backward()
    assert weights.grad.abs().max() < readout.FLAT


def test_a_read_out_keeps_the_mean_of_what_it_learned_on():
    (features, classes), (held_out, truth) = clouds(0, 6.0), clouds(1, 6.0)
    away = torch.tensor([20.0, 0.0, 0.0, 0.0, 0.0])
    learned = ReadOut.of(features + away, classes)
    assert learned.accuracy(held_out + away, truth) > 0.99
    assert learned(held_out[:3] + away).tolist() == truth[:3].tolist()
    assert learned.accuracy(held_out, truth) < 0.9  # with a mean of their own they would be named all the same


def test_a_penalty_shrinks_the_weights_and_not_the_intercepts():
    features, classes = clouds(0, 1.5)
    rare = classes.clamp_max(1)  # four classes in one
    weak, strong = (ReadOut.of(features, rare, penalty=penalty).weights for penalty in (PENALTY, 10.0))
    assert strong[:-1].norm() < 0.1 * weak[:-1].norm()
    assert (strong[-1, 1] - strong[-1, 0]).item() == pytest.approx(np.log(4), abs=0.05)


def test_statistics_are_mean_and_deviation_over_patches():
    model, images = untrained(SPEC, 0), random_batch(6, (16, 16), 0)[0]
    found = omega_statistics(model, images)
    with torch.no_grad():
        omega = model.tokens(images).omega.double()
    assert found.shape == (6, 8)
    assert not found.requires_grad
    assert torch.allclose(found[:, :4].double(), omega.mean(dim=1), atol=1e-6)
    assert torch.allclose(found[:, 4:].double(), omega.var(dim=1, correction=0).sqrt(), atol=1e-6)


def test_an_image_of_one_patch_has_no_deviation():
    found = omega_statistics(untrained(SPEC, 0), random_batch(3, (4, 4), 0)[0])
    assert found.isfinite().all()
    assert not found[:, 4:].any()


def test_chunks_change_nothing(monkeypatch):
    model, images = untrained(SPEC, 0), random_batch(7, (16, 16), 0)[0]
    whole = omega_statistics(model, images)
    monkeypatch.setattr(readout, "PATCHES_AT_ONCE", 40)  # two images of 16 patches at once, and one left over
    assert torch.allclose(omega_statistics(model, images), whole, atol=1e-6)


def test_images_of_another_kind_are_named():
    with pytest.raises(InputError, match="wrong shape of a batch of images"):
        omega_statistics(untrained(SPEC, 0), torch.zeros(2, 1, 16, 16))


@pytest.mark.slow
def test_naming_noise_is_deterministic_and_shares_its_images(monkeypatch):
    few = {"per_type": (6, 4), "size": 16}
    first = name_noise(untrained(SPEC, 0), **few)
    assert 1 / 16 < first <= 1
    readout._noise_parts.cache_clear()
    assert name_noise(untrained(SPEC, 0), **few) == first
    monkeypatch.setattr(readout, "of_types", None)  # another model makes no other images
    name_noise(untrained(SPEC, 1), **few)


def test_the_parts_differ_and_are_balanced():
    (train, learned), (test, judged) = readout._noise_parts((6, 6), 16, 0, 3, "batteries")
    assert learned.bincount().tolist() == judged.bincount().tolist() == [6] * 16
    assert not any(torch.equal(a, b) for a, b in zip(train, test, strict=True))
