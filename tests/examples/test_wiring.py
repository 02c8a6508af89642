"""The examples of signatures, relays and routes: run as a user runs them, and their parts on results made by hand."""

import os
import re
import runpy
import subprocess
import sys

import pytest
import torch
from scipy.stats import binomtest

import batteries
import composer
from tests.support.cells import ROOT
from tests.support.examples import EXAMPLES, RESULTS, example, rows
from tests.support.soak import SOAK

pages, signature, relay, routing = map(example, ("pages", "signature", "relay", "routing"))


def number(cell):
    """The first number of a cell, without what is in brackets; None where there is none."""
    found = re.match(r"-?\d[\d.e+-]*", cell)
    return float(found[0]) if found else None


every_example = pytest.mark.parametrize(
    ("name", "page"), [("signature", "wiring"), ("relay", "wiring"), ("routing", "routing")]
)
FEWER = {  # of what each example repeats: untrained cells, images, pairs of cells, and noise to train on
    "signature": {"UNTRAINED": 1, "TEST": 10},
    "relay": {"UNTRAINED": 1, "PAIRS": relay.PAIRS[::3]},
    "routing": {"TRAIN": range(1000, 1004), "TEST": range(2000, 2002)},
}


def said_on(page, name):
    """The tables of an example's section, and that it names its command."""
    written = (RESULTS / f"{page}.md").read_text().split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    assert f"`python examples/{name}.py --write`" in written
    return rows(written)


def first_of(table):
    """The rows of the first of several tables."""
    return table[: next((place for place, row in enumerate(table) if len(row) != len(table[0])), len(table))]


def alike(printed, kept):
    """The rows of one table have the words and, up to rounding elsewhere, the numbers of the other's."""
    for mine, theirs in zip(printed, kept, strict=True):
        assert mine[0] == theirs[0]
        for one, other in zip(map(number, mine), map(number, theirs), strict=True):
            assert one is other is None or one == pytest.approx(other, rel=0.2, abs=0.05)


@pytest.mark.slow
@every_example
def test_of_less_its_claim_holds_and_its_page_says_the_same(capsys, monkeypatch, name, page):
    module = {"signature": signature, "relay": relay, "routing": routing}[name]
    for constant, less in FEWER[name].items():
        monkeypatch.setattr(module, constant, less)
    assert module.main([]) == 0
    printed, kept = first_of(rows(capsys.readouterr().out)), first_of(said_on(page, name))
    if name == "relay":
        kept = [row for row in kept if row[0] in {"A to B", *(" to ".join(pair) for pair in relay.PAIRS)}]
        printed, kept = ([row[:-1] for row in table] for table in (printed, kept))  # without the range of untrained cells
    alike(printed, kept)


@pytest.mark.slow
@every_example
def test_it_is_a_script(capsys, monkeypatch, name, page):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit, match=r"\A0\Z"):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert page in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not SOAK, reason="two minutes; `make soak` runs it")
@every_example
def test_it_runs_its_claim_holds_and_its_page_says_the_same(name, page):
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    alike(first_of(rows(ran.stdout)), first_of(said_on(page, name)))


def test_a_table():
    assert pages.table(["a", "bc"], [["1", "2"], ["345", ""]]) == "| a   | bc |\n|-----|----|\n| 1   | 2  |\n| 345 |    |"


@pytest.mark.parametrize(("count", "of"), [(0, 16), (7, 16), (16, 16), (374, 400)])
def test_bounds_of_a_share_are_scipy_s(count, of):
    wanted = binomtest(count, of).proportion_ci(confidence_level=0.95, method="wilson")
    assert pages.wilson(count, of) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_a_section_is_put_in_its_place(tmp_path):
    page = tmp_path / "page.md"
    pages.put(page, "Title", "one", "first")
    pages.put(page, "Title", "two", "second")
    assert page.read_text() == "# Title\n\n<!-- one -->\nfirst\n<!-- /one -->\n\n<!-- two -->\nsecond\n<!-- /two -->\n"
    page.write_text(page.read_text() + "by hand\n")
    pages.put(page, "Other", "one", r"\1 again")
    assert page.read_text().startswith("# Title\n\n<!-- one -->\n\\1 again\n<!-- /one -->\n\n<!-- two -->")
    assert page.read_text().endswith("by hand\n")
    page.write_text("# Title\n<!-- one -->\n")
    with pytest.raises(SystemExit, match="without"):
        pages.put(page, "Title", "one", "first")
    assert page.read_text() == "# Title\n<!-- one -->\n"


def named(trained, untrained=(200, 210, 190)):
    return signature.Named("error", trained, untrained, 400)


def test_a_signature_holds_where_bounds_do_not_meet():
    assert named(370).holds
    assert not named(225).holds
    assert not named(30, (1, 1, 1)).holds  # better than untrained, and not than chance
    assert named(370).row == ("error", "0.9250", "0.8950 to 0.9470", "0.5000", "0.4750 to 0.5250")


def test_what_is_read_of_errors():
    errors = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert signature.seen(errors, "error").tolist() == [[1, 3]]
    assert signature.seen(errors, "pattern").tolist() == [[-1, 1]]
    assert signature.seen(errors, "error and spread").tolist() == [[1, 2, 3, 4]]
    assert signature.least_correlation(torch.tensor([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), torch.tensor([1.0, 2.0, 3.0])) == -1


def test_the_signature_of_a_container_is_in_the_order_of_its_errors():
    cells = batteries.probe("noise16-64").images[:3]
    container = signature.untrained(signature.registry.pull("low/johanna-64", "mid/johanna-64", "low/fresnel-64"), 0)
    out = container(cells)
    found = signature.errors(container, cells)
    order = [name for group in out.groups for name in group.names]
    assert torch.allclose(
        found[..., 0], torch.stack([out[name].patch_error.mean(dim=1) for name in order], dim=1).log(), atol=1e-5
    )


def swap(source="high/a", one_start=True, kind="omega", probe="photos-64", **changes):
    errors = {"own": 1.0, "mean": 5.0, "mapped": 2.0, "shuffled": 6.0} | changes
    spread = torch.linspace(0.9, 1.1, 40, dtype=torch.float64)
    found = {name: value * spread for name, value in errors.items()}
    made = composer.alignment.Swap("source", "target", kind, found, torch.arange(40) // 2)
    return relay.Relay(made, (source, "high/b"), one_start, probe, [made.share("mean") + 0.025, 0.0])


def test_a_row_of_relays():
    found = (
        "high/a to high/b",
        "one",
        "photos-64",
        "omega",
        "1",
        "5",
        "5",
        "0.750 (0.750 to 0.750)",
        "-0.250",
        "0.000 to 0.025",
    )
    assert swap().row == found


@pytest.mark.parametrize(
    ("swaps", "wrong"),
    [
        ([swap()], []),
        ([swap(), swap("low/a", probe="noise16-64", mean=1.01)], []),
        ([swap(), swap("low/a", probe="noise16-64")], ["LOW, noise"]),
        ([swap(), swap("low/a")], []),
        ([swap(mean=1.5, mapped=1.1)], ["HIGH: without"]),
        ([swap(mapped=5.0)], ["HIGH, one start"]),
        ([swap(one_start=False)], ["HIGH, one start"]),
        ([swap(), swap(one_start=False, kind="rows", mapped=9.0)], []),
        ([swap(), swap(one_start=False, kind="rows")], ["rows of cells"]),
    ],
)
def test_claims_of_relays_can_fail(swaps, wrong):
    failed = [claim for claim, holds in relay.claims(swaps).items() if not holds]
    assert len(failed) == len(wrong)
    assert all(claim.startswith(start) for claim, start in zip(failed, wrong, strict=True))


def photographs(count=4):
    probe = batteries.probe("photos-64")
    return probe.images[:count], probe.group[:count]


def test_what_is_pasted_and_what_is_not():
    images, photo = photographs()
    found = routing.paste(images, photo, range(3))
    assert found.images.shape == (12, 3, 64, 64)
    assert found.noisy.shape == (12, 4, 4)
    plane = found.noisy.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None].expand_as(found.images)
    assert torch.equal(found.images[~plane], images.repeat(3, 1, 1, 1)[~plane])
    assert (found.images[plane] != images.repeat(3, 1, 1, 1)[plane]).float().mean() > 0.99
    assert torch.equal(found.of((4, 4)), found.noisy.flatten(1))
    assert torch.equal(found.of((16, 16)).unflatten(1, (16, 16))[:, ::4, ::4], found.noisy)
    assert torch.equal(found.images, routing.paste(images, photo, range(3)).images)
    assert not torch.equal(found.images, routing.paste(images, photo, range(3, 6)).images)


def test_matched_noise_has_the_mean_and_spread_of_what_it_hides():
    images, photo = photographs()
    found = routing.paste(images, photo, [5], matched=True)
    mine, theirs = (x.unflatten(3, (4, 16)).unflatten(2, (4, 16)) for x in (found.images, images))
    for function in (torch.mean, torch.std):
        assert torch.allclose(function(mine, dim=(3, 5)), function(theirs, dim=(3, 5)), atol=1e-4)


def test_no_photograph_is_in_both_halves():
    probe = batteries.probe("photos-64")
    first, second = routing.halves(probe)
    assert torch.equal(first, ~second)
    assert not set(probe.group[first].tolist()) & set(probe.group[second].tolist())
    assert first.sum() == second.sum() == 48


def routing_of(choice, noisy, way="by hand"):
    choice, noisy = torch.tensor(choice), torch.tensor(noisy, dtype=torch.bool)
    count = len(choice)
    pasted = routing.Pasted(torch.rand(count, 3, 4, 4), noisy.unflatten(1, (2, 2)), torch.zeros(count), torch.arange(count))
    error = torch.nn.functional.one_hot(choice, 2).neg().add(2).float()
    return routing.Routing(way, ("noise", "photo"), choice, error, pasted, (2, 2))


def test_shares_and_confusion_of_a_routing():
    found = routing_of([[0, 0, 1, 1], [1, 0, 1, 0]], [[1, 1, 0, 0], [1, 1, 0, 0]])
    assert (found.right(True).value, found.right(False).value) == (0.75, 0.75)
    assert found.right(True).images == 2
    assert rows(found.confusion()) == [("by hand", "noise", "photo"), ("pasted noise", "3", "1"), ("photograph", "1", "3")]
    assert not found.holds
    perfect = routing_of([[0, 0, 1, 1], [0, 0, 1, 1]], [[1, 1, 0, 0], [1, 1, 0, 0]])
    assert perfect.holds
    assert perfect.row == ("by hand", "1.0000 (1.0000 to 1.0000)", "1.0000 (1.0000 to 1.0000)", "yes")
    assert torch.equal(routing.leads(perfect)[perfect.noisy], torch.full((4,), 0.5))


def test_claims_of_routes_can_fail():
    right = routing_of([[0, 0, 1, 1], [0, 0, 1, 1]], [[1, 1, 0, 0], [1, 1, 0, 0]])
    wrong = routing_of([[1, 1, 0, 0], [1, 1, 0, 0]], [[1, 1, 0, 0], [1, 1, 0, 0]])
    assert list(routing.claims([wrong, right, wrong, wrong, wrong, wrong]).values()) == [True] * 4
    assert list(routing.claims([right, wrong, right, right, right, right]).values()) == [False] * 4


def test_neighbours_and_detail_and_light():
    noisy = torch.zeros(1, 9, dtype=torch.bool)
    noisy[0, 0] = noisy[0, 4] = True
    assert routing.neighbours(noisy, (3, 3)).tolist() == [[1, 2, 1, 2, 1, 1, 1, 1, 1]]
    images = torch.zeros(1, 3, 4, 4)
    images[..., :2, 1] = 1.0  # a stripe in the first region
    assert routing.detail(images, (2, 2)).tolist() == [[1, 0, 0, 0]]
    assert routing.light(images, (2, 2)).tolist() == [[0.5, 0, 0, 0]]


def test_a_failing_claim_fails_the_command(monkeypatch, capsys):
    monkeypatch.setattr(signature, "measure", lambda: ([named(201)], 0.99))
    assert signature.main([]) == 1
    monkeypatch.setattr(relay, "measure", lambda: [swap(mapped=5.0)])
    assert relay.main([]) == 1
    assert "NO" in capsys.readouterr().out


def test_what_is_written(monkeypatch, tmp_path):
    monkeypatch.setattr(signature, "measure", lambda: ([named(370)], 0.99))
    monkeypatch.setattr(relay, "measure", lambda: [swap()])
    for module in (signature, relay):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
        assert module.main(["--write"]) == 0
    text = (tmp_path / "wiring.md").read_text()
    assert text.startswith("# Wired cells, measured\n")
    assert text.index("## Error signatures") < text.index("## Relays")
