"""What has names behaves like a mapping of them; an unknown name is a typed error that is a KeyError, too."""

import copy
import pickle
from collections.abc import Mapping

import pytest
import torch

import composer
import registry
from batteries.errors import BatteriesError, NotFoundError, UnknownKeyError
from batteries.lookup import Lookup
from composer.container.container import Container
from registry.catalog.index import Index
from registry.stores.snapshot import locate, open_snapshot
from tests.support.cells import attestation, filled, tiny
from tests.support.models import NODES, SPECS, images, model

WRONG = ["nothing", "", "low/nothing", 0, -1, None, 3.5, ("noise",), b"noise", slice(0, 1), ["noise"], {}]


@pytest.fixture(scope="module")
def made():
    wired, store = model(), filled(tiny(), tiny("one"), tiny("one", "1.10.0", seed=1), tiny("one", "1.9.0", seed=2))
    out = wired(images())
    references = ["high/one@1.0.0", "high/tiny", "high/one@1.9.0", "high/one"]
    locked = registry.Lock.of(locate(map(registry.Reference.parse, references), store))
    together = out.nodes["all"]
    return {
        "container": (wired.container, list(SPECS), "NO_CELL"),
        "wired": (wired, list(SPECS), "NO_CELL"),
        "container's output": (wired.container(images()), list(SPECS), "NO_CELL"),
        "wired output": (out, [*SPECS, *wired.composition.order], "NO_CELL"),
        "together": (together, list(NODES["all"].of), "NO_CELL"),
        "consensus": (wired.consensus, list(SPECS), "NO_MAP"),
        "index": (open_snapshot(store).index, ["high/one", "high/tiny"], "NO_CELL"),
        "lock": (locked, ["high/one@1.0.0", "high/one@1.10.0", "high/one@1.9.0", "high/tiny@1.0.0"], "NO_CELL"),
        "report": (registry.Report(attestation(tiny())), ["finite"], "NO_CHECK"),
    }


KINDS = ["container", "wired", "container's output", "wired output", "together", "consensus", "index", "lock", "report"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_what_a_mapping_has(made, kind):
    value, names, _ = made[kind]
    assert isinstance(value, Mapping | Lookup)
    assert list(value) == list(value.keys()) == names
    assert len(value) == len(value.keys()) == len(value.values()) == len(value.items()) == len(names)
    assert bool(value) is True
    assert [name for name, _ in value.items()] == names
    for name in names:
        assert name in value
        assert name in value.keys()  # noqa: SIM118 - the view is what is asked
        assert type(value[name]) is type(value.get(name))
    assert list(dict(value.items())) == names


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_name_is_a_typed_error_a_key_error_and_simply_not_in_it(made, kind, wrong):
    value, names, code = made[kind]
    assert wrong not in value
    assert value.get(wrong) is None
    assert value.get(wrong, 7) == 7
    with pytest.raises(KeyError) as caught:
        value[wrong]
    assert isinstance(caught.value, NotFoundError)
    assert (caught.value.code, caught.value.exit_code) == (code, 3)
    assert str(caught.value).startswith(caught.value.what)
    assert names[0] in str(caught.value) or kind == "index" or wrong != "nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_name_or_the_names_there_are(made, kind):
    value, names, _ = made[kind]
    with pytest.raises(UnknownKeyError, match=names[-1][:4]):
        value[f"{names[-1]}x"]


def test_parts_of_a_container_are_over_the_same_memory(made):
    container, wired = made["container"][0], made["wired"][0]
    for part in (container["photo"], wired["photo"], container.get("photo")):
        assert isinstance(part, Container)
        assert part.names == ("photo",)
        assert part.groups[0] is container.groups[0]
    assert torch.equal(container["photo"](images()).recon, container(images(), names="photo").recon)


def test_outputs_by_name(made):
    out, wired = made["wired output"][0], made["wired"][0]
    assert torch.equal(out["noise"].recon, out.cells["noise"].recon)
    assert out["swap"] is out.nodes["swap"]
    assert set(out) == {*wired.names, *wired.composition.nodes}


def test_maps_by_name(made):
    consensus = made["consensus"][0]
    assert consensus["wide"] is consensus.maps[consensus.names.index("wide")]
    assert consensus.get("wide") is consensus["wide"]


def test_an_index_gives_releases_by_version(made):
    index = made["index"][0]
    assert set(index["high/one"]) == {"1.0.0", "1.9.0", "1.10.0"}
    with pytest.raises(KeyError, match=r"Did you mean high/tiny\b"):
        index["high/tinny"]


def test_an_index_without_anything_is_empty_as_a_mapping_is():
    assert list(Index()) == []
    assert len(Index()) == 0
    assert Index() == Index()


def test_a_lock_gives_the_newest_of_a_name_without_its_version(made):
    lock = made["lock"][0]
    assert lock["high/one"].version == "1.10.0"
    assert lock["high/one@1.9.0"].version == "1.9.0"
    assert "high/one" in lock
    assert "high/one@7.0.0" not in lock
    with pytest.raises(NotFoundError, match=r"Did you mean high/one@1\.9\.0"):
        lock["high/one@1.9.1"]


def test_documents_are_what_they_were(made):
    """A document that iterates over its names is written, copied and compared by its fields."""
    index, lock = made["index"][0], made["lock"][0]
    for value in (index, lock):
        again = type(value).model_validate_json(value.model_dump_json())
        assert again == value == value.model_copy() == copy.deepcopy(value) == pickle.loads(pickle.dumps(value))
        assert set(value.model_dump()) <= set(type(value).model_fields)
    assert Index.from_bytes(index.sealed(), where="here") == index


def test_a_report_gives_checks_by_name(made):
    report = made["report"][0]
    assert report["finite"] is report.checks[0]
    assert report.get("radius") is None


@pytest.fixture(scope="module")
def table():
    return composer.compare(model().container, images(), untrained=0)


def test_pairs_by_row_and_by_names_in_either_order(table):
    assert len(table) == len(table.pairs) == 10
    assert list(table) == list(table.pairs)
    assert table[0] is table.pairs[0]
    assert table[-1] is table.pairs[-1]
    assert table[1:3] == table.pairs[1:3]
    assert table["noise", "wide"] is table["wide", "noise"] is table.pair("noise", "wide")
    assert ("noise", "wide") in table
    assert ("wide", "noise") in table
    assert table.pairs[3] in table
    assert bool(table)


@pytest.mark.parametrize(
    "wrong", ["noise", "nothing", ("noise", "nothing"), ("noise",), ("noise", "noise"), None, (0, 1), ([], {})]
)
def test_no_such_pair(table, wrong):
    assert wrong not in table
    with pytest.raises(KeyError) as caught:
        table[wrong]
    assert isinstance(caught.value, BatteriesError)
    assert caught.value.code == "NO_PAIR"


def test_a_row_that_is_not_there(table):
    with pytest.raises(IndexError, match="range"):
        table[10]


def test_modules_that_are_mappings_stay_modules(made):
    wired = made["wired"][0]
    host = torch.nn.Sequential(wired)
    assert host[0] is wired
    assert len(list(host.modules())) > 3
    assert copy.deepcopy(wired.container).names == wired.container.names
    assert torch.nn.ModuleDict({"one": wired.container})["one"] is wired.container
    assert torch.equal(torch.nn.DataParallel(wired.container).module(images()).recon, wired.container(images()).recon)


def test_outputs_stay_pytrees(made):
    for kind in ("container's output", "wired output"):
        value = made[kind][0]
        leaves, form = torch.utils._pytree.tree_flatten(value)
        assert all(isinstance(leaf, torch.Tensor) for leaf in leaves)
        again = torch.utils._pytree.tree_unflatten(leaves, form)
        assert list(again) == list(value)
        assert type(again) is type(value)
    container = made["container"][0]
    assert torch.func.vmap(lambda x: container(x[None]).recon[0])(images()).shape == (8, 5, 3, 16, 16)


def test_a_container_is_no_list_of_cells(made):
    with pytest.raises(BatteriesError, match="cells"):
        composer.compose(made["container"][0])


def test_the_error_is_caught_by_its_bases():
    error = UnknownKeyError("no such thing", code="NO_THING", found="x")
    assert isinstance(error, KeyError | NotFoundError)
    assert str(error) == "no such thing: got x [NO_THING]"
