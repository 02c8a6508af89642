"""Coverage of the intervals, bias of the CV, and its exact value, by simulation of rows and errors whose law is known.

    python examples/interval_coverage.py           # prints the tables, in about ten minutes on one thread
    python examples/interval_coverage.py --write   # also writes its sections of docs/results/coverage.md

Rows are uniform on the sphere, where the CV is known exactly; errors are log-normal, as skewed as those of images.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from pages import RESULTS, put, table, wilson
from torch import Generator, Tensor

from batteries import geometry
from batteries.geometry import estimates, jackknife, row_figures, simplex_cv
from batteries.geometry.estimates import Estimate, clustered_mean
from batteries.geometry.simplex_cv import Degenerate

PAGE, TITLE = RESULTS / "coverage.md", "Coverage of the intervals"
REPLICATES, MANY = 400, 4000  # of a CV or rank, and of cheap figures
DRAWS = simplex_cv.DRAWS
V_OF = {4: 32, 8: 64, 16: 64, 32: 64}  # rows, by width
EXACT_WIDTHS = (4, 5, 6, 8, 12, 16, 24, 32, 48)
EXACT_MATRICES = 1024
BIAS_ROWS, BIAS_WIDTHS, BIAS_MATRICES = (8, 12, 16, 24, 32, 64), (4, 16), 2000
AT_ONCE = 512  # matrices

COVERAGE = """`python examples/interval_coverage.py --write`: share of {replicates} simulated measurements whose 95% interval
contains the expected value, with 95% bounds of the share (Wilson). *CV*, published and axial: rows uniform on the sphere, 32
at D = 4 and 64 elsewhere, {draws} draws a matrix, against the exact value. *rank*: of the same rows, against the mean of
20,000 matrices. *MSE*, {many} measurements: errors of images log-normal, the standard deviation of the logarithm 0.5 or 1.
Clusters are images, or photographs with several crops. *before*: CV as drawn, and the normal quantile; *t*: corrected for the
number of rows, with Student's quantile; *now*: corrected for the skewness of the clusters besides."""
BIAS = """`python examples/interval_coverage.py --write`: mean CV of {matrices} matrices of V uniform rows over the exact value,
less 1, and its standard error. *corrected*: by the jackknife over rows, which is applied from {fewest} rows on; *of order
1/V*: by its usual form, which turns the bias round."""
EXACT = """`python examples/interval_coverage.py --write`: axial CV of {matrices} matrices of 64 uniform rows, with its 95%
interval, beside the exact CV of uniform rows (Miles 1971). At D = 3 there is none: {degenerate}."""


@dataclass(frozen=True)
class Design:
    """Sizes of a simulated measurement.

    Attributes:
        clusters: Images, or photographs.
        each: Matrices of each.
    """

    clusters: int
    each: int

    def __str__(self) -> str:
        return f"{self.clusters} x {self.each}"

    @property
    def image(self) -> Tensor:
        """Cluster of each matrix."""
        return torch.arange(self.clusters).repeat_interleave(self.each)


FEW = Design(16, 3)
CV_CASES = (
    *((D, FEW, False) for D in V_OF),
    *((D, FEW, True) for D in V_OF),
    *((16, Design(16, 12), True), (4, Design(64, 1), True), (16, Design(64, 1), True), (16, Design(256, 1), True)),
)  # width, design, axial
RANK_CASES = tuple((D, design) for D in (4, 16) for design in (FEW, Design(64, 1), Design(256, 1)))
MSE_CASES = tuple((sigma, Design(clusters, 1)) for sigma in (0.5, 1.0) for clusters in (16, 64, 256))


def uniform(matrices: int, V: int, D: int, generator: Generator) -> Tensor:
    """Draw matrices (n, V, D) of rows uniform on the sphere."""
    return torch.nn.functional.normalize(torch.randn(matrices, V, D, generator=generator, dtype=torch.float64), dim=-1)


def volumes(M: Tensor, rows: Tensor, signs: Tensor | None = None) -> Tensor:
    """Compute the volumes (n, draws) of simplices of matrices M (n, V, D), as the package does but for rounding and speed.

    Inner products of rows are gathered, in place of rows, and every step runs over all simplices: six times as fast.

    Args:
        M: Matrices.
        rows: Rows (n, draws, 5) of each simplex.
        signs: Signs of these rows, 1 or -1; None for none.
    """
    products, places = (M @ M.mT).flatten(1), rows.unbind(dim=-1)
    turned = (1,) * len(places) if signs is None else signs.unbind(dim=-1)

    def inner(i: int, j: int) -> Tensor:
        return products.gather(1, places[i] * M.shape[1] + places[j]) * turned[i] * turned[j]

    first, size = [inner(0, j) for j in range(len(places))], len(places) - 1
    gram = [[inner(i + 1, j + 1) - first[i + 1] - first[j + 1] + first[0] for j in range(size)] for i in range(size)]
    determinant = torch.ones_like(first[0])
    for pivot in range(size):
        determinant = determinant * gram[pivot][pivot]
        for i in range(pivot + 1, size):
            factor = gram[pivot][i] / gram[pivot][pivot]
            for j in range(pivot + 1, size):
                gram[i][j] = gram[i][j] - factor * gram[pivot][j]
    return determinant.clamp_min(0).sqrt() / math.factorial(size)


def cvs(matrices: int, V: int, D: int, *, axial: bool, draws: int = DRAWS, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the CVs (n,) of matrices of uniform rows, as drawn and corrected for the number of rows."""
    generator, found = Generator().manual_seed(seed), []
    for part in torch.arange(matrices).split(AT_ONCE):
        M, rows = uniform(len(part), V, D, generator), simplex_cv.draw_rows(V, len(part), draws, generator)
        drawn = volumes(M, rows, 2 * torch.randint(2, rows.shape, generator=generator) - 1 if axial else None)
        found.append((drawn.std(dim=1) / drawn.mean(dim=1), jackknife.corrected_cv(drawn, rows, V)))
    plain, corrected = zip(*found, strict=True)
    return torch.cat(plain), torch.cat(corrected)


def cv_estimates(
    D: int, design: Design, *, axial: bool, replicates: int = REPLICATES, draws: int = DRAWS
) -> Iterator[tuple[Estimate, Estimate]]:
    """Yield simulated measurements of a CV, each as drawn and corrected for the number of rows."""
    size = len(design.image)
    found = (part.split(size) for part in cvs(replicates * size, V_OF[D], D, axial=axial, draws=draws, seed=D))
    for pair in zip(*found, strict=True):
        plain, corrected = (clustered_mean(values, design.image) for values in pair)
        yield plain, corrected


def rank_estimates(D: int, design: Design, replicates: int = REPLICATES) -> Iterator[Estimate]:
    """Yield simulated measurements of the effective rank of uniform rows."""
    generator = Generator().manual_seed(D)
    for _ in range(replicates):
        yield clustered_mean(_ranks(len(design.image), D, generator), design.image)


def mse_estimates(sigma: float, design: Design, replicates: int = MANY) -> Iterator[Estimate]:
    """Yield simulated measurements of an error that is log-normal over images."""
    generator = Generator().manual_seed(design.clusters)
    for _ in range(replicates):
        errors = (sigma * torch.randn(design.clusters, generator=generator, dtype=torch.float64)).exp()
        yield clustered_mean(errors.repeat_interleave(design.each), design.image)


def normal(found: Estimate) -> tuple[float, float]:
    """Return the interval with the normal quantile."""
    return found.value - estimates.Z95 * found.standard_error, found.value + estimates.Z95 * found.standard_error


def student(found: Estimate) -> tuple[float, float]:
    """Return the interval with Student's quantile."""
    reach = estimates.student(0.95, found.freedom) * found.standard_error
    return found.value - reach, found.value + reach


def covered(found: list[Estimate], expected: float, interval: Callable[[Estimate], tuple[float, float]]) -> int:
    """Count the measurements whose interval contains the expected value."""
    return sum(lower <= expected <= upper for lower, upper in map(interval, found))


def mean_rank(D: int) -> float:
    """Return the mean effective rank of 20,000 matrices of uniform rows."""
    return float(_ranks(20_000, D, Generator().manual_seed(1000 + D)).mean())


def coverage_rows() -> Iterator[list[str]]:
    """Yield the rows of the coverage table."""
    for D, design, axial in CV_CASES:
        plain, now = (list(part) for part in zip(*cv_estimates(D, design, axial=axial), strict=True))
        yield [f"{'axial CV' if axial else 'CV'}, D = {D}", str(design), *_shares(plain, now, geometry.sphere_cv(D))]
    for D, design in RANK_CASES:
        found = list(rank_estimates(D, design))
        yield [f"rank, D = {D}", str(design), *_shares(found, found, mean_rank(D))]
    for sigma, design in MSE_CASES:
        found = list(mse_estimates(sigma, design))
        yield [f"MSE, log sd {sigma:g}", str(design), *_shares(found, found, math.exp(sigma**2 / 2))]


def bias_rows() -> Iterator[list[str]]:
    """Yield the rows of the table of biases."""
    for D in BIAS_WIDTHS:
        for V in BIAS_ROWS:
            for axial in (False, True):
                plain, corrected = cvs(BIAS_MATRICES, V, D, axial=axial)
                left_out = (V**2 * plain - (2 * V - 1) * corrected) / (V - 1) ** 2
                ways = (plain, V * plain - (V - 1) * left_out, corrected)
                yield [str(D), str(V), "axial" if axial else "published", *(_bias(way, D) for way in ways)]


def exact_rows() -> Iterator[list[str]]:
    """Yield the rows of the table of exact values."""
    for D in EXACT_WIDTHS:
        found = geometry.axial_cv(uniform(EXACT_MATRICES, 64, D, Generator().manual_seed(D)), torch.arange(EXACT_MATRICES))
        assert isinstance(found, Estimate)
        lower, upper = found.interval()
        yield [str(D), f"{geometry.sphere_cv(D):.5f}", f"{found.value:.5f}", f"{lower:.5f} to {upper:.5f}"]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Coverage of intervals, and bias of the CV, by simulation.")
    parser.add_argument("--write", action="store_true", help=f"write sections of {PAGE.name}")
    arguments = parser.parse_args()
    degenerate = geometry.axial_cv(torch.ones(1, 8, 3), torch.zeros(1))
    assert isinstance(degenerate, Degenerate)
    sections = {
        "exact": (EXACT.format(matrices=EXACT_MATRICES, degenerate=degenerate.reason), _exact),
        "bias": (BIAS.format(matrices=BIAS_MATRICES, fewest=jackknife.FEWEST_ROWS), _biases),
        "coverage": (COVERAGE.format(replicates=REPLICATES, many=MANY, draws=DRAWS), _coverage),
    }
    for section, (words, make) in sections.items():
        found = make()
        print(found, flush=True)
        if arguments.write:
            put(PAGE, TITLE, section, f"{words}\n\n{found}")


def _exact() -> str:
    return table(["D", "exact", "axial CV", "95% interval"], list(exact_rows()))


def _biases() -> str:
    return table(["D", "V", "CV", "as drawn", "of order 1/V", "corrected"], list(bias_rows()))


def _coverage() -> str:
    return table(["figure", "clusters x each", "before", "t", "now"], list(coverage_rows()))


def _ranks(matrices: int, D: int, generator: Generator) -> Tensor:
    return row_figures.effective_rank(_singular_values(uniform(matrices, V_OF[D], D, generator)))


def _singular_values(M: Tensor) -> Tensor:
    """Take them from the eigenvalues of M'M, which is several times as fast, and exact enough of rows so far from dependent."""
    return torch.linalg.eigvalsh(M.mT @ M).sqrt()


def _shares(before: list[Estimate], now: list[Estimate], expected: float) -> list[str]:
    ways = ((before, normal), (now, student), (now, Estimate.interval))
    return [_share(covered(found, expected, interval), len(found)) for found, interval in ways]


def _share(count: int, of: int) -> str:
    low, high = wilson(count, of)
    return f"{count / of:.3f} ({low:.3f} to {high:.3f})"


def _bias(found: Tensor, D: int) -> str:
    ratio = found / geometry.sphere_cv(D)
    return f"{float(ratio.mean()) - 1:+.4f} ± {float(ratio.std()) / math.sqrt(len(ratio)):.4f}"


if __name__ == "__main__":
    main()
