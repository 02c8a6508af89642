"""Tasks of the study: sizes, separate parts, seeds, cells before a task, and CIFAR's files."""

import pickle

import pytest
import torch

from batteries import CellSpec
from batteries.data import cifar
from batteries.errors import FormatError, InputError, NotFoundError, StoreError
from composer import compose, credit
from composer.credit.tasks import PER_CLASS
from tests.support.cells import from_model

MADE = {"noise": (credit.noise_task, 16), "photographs": (credit.photograph_task, 16), "digits": (credit.digit_task, 10)}
SPEC = CellSpec(V=12, D=4, patch_size=4, hidden=8)


@pytest.mark.parametrize("name", MADE)
def test_tasks_are_seeded_balanced_and_of_separate_parts(name):
    make, classes = MADE[name]
    task, again, other = make((3, 2)), make((3, 2)), make((3, 2), seed=1)
    assert (task.name, task.classes) == (name, classes)
    assert task.train[0].shape == (3 * classes, 3, 16, 16)
    assert torch.equal(task.train[1].bincount(), torch.full((classes,), 3))
    assert torch.equal(task.train[0], again.train[0])
    assert not torch.equal(task.train[0], other.train[0])
    assert not any(torch.equal(image, held) for image in task.train[0] for held in task.test[0])


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("per_class", [(2, 0), (0, 2), (2,)])
def test_parts_without_images_are_refused(name, per_class):
    with pytest.raises(InputError, match="TASK_IMAGES"):
        MADE[name][0](per_class)


def test_the_reference_task_has_its_size():
    assert [count * 16 for count in PER_CLASS] == [6400, 1600]


def test_printed_digits_can_be_told_apart():
    task = credit.digit_task((60, 20)).flat()
    means = torch.stack([task.train[0][task.train[1] == digit].mean(dim=0) for digit in range(10)])
    nearest = torch.cdist(task.test[0], means).argmin(dim=1)
    assert (nearest == task.test[1]).float().mean() > 0.25  # chance is 0.1


@pytest.mark.parametrize(("reads", "width"), [("omega", 4), ("M", 48), ("signature", 1)])
def test_cells_come_before_a_task(reads, width):
    model = compose([from_model(SPEC, seed, name) for seed, name in enumerate("ab")])
    task = credit.through_cells(credit.noise_task((4, 2)), model, reads)
    assert task.train[0].shape == (64, 2 * width, 4, 4)
    assert task.test[0].shape == (32, 2 * width, 4, 4)
    deviation, mean = torch.std_mean(task.train[0], dim=(0, 2, 3))
    assert mean.abs().max() < 1e-4
    assert (deviation - 1).abs().max() < 1e-3


def test_cells_of_two_grids_are_refused():
    other = SPEC.model_copy(update={"patch_size": 8})
    model = compose([from_model(SPEC, 0, "a"), from_model(other, 1, "b")])
    with pytest.raises(InputError, match="GRIDS"):
        credit.through_cells(credit.noise_task((1, 1)), model, "omega")
    with pytest.raises(InputError, match="READS"):
        credit.through_cells(credit.noise_task((1, 1)), model, "S")


def test_classes_without_images_are_refused():
    images = torch.zeros(4, 3, 8, 8)
    for classes in (torch.zeros(3).long(), torch.full((4,), 9)):
        with pytest.raises(InputError, match="TASK_IMAGES"):
            credit.CreditTask("odd", (images, torch.zeros(4).long()), (images, classes), 2)


def records(*classes):
    return b"".join(bytes([label]) + bytes([label] * 3072) for label in classes)


def folder(tmp_path, train=None, test=None):
    for number, data in enumerate(train or (records(0, 1, 2), records(3)), start=1):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(data)
    (tmp_path / "test_batch.bin").write_bytes(records(9) if test is None else test)
    return tmp_path


def test_cifar_is_read_in_order(tmp_path):
    (images, classes), (_, truth) = cifar.read_cifar(folder(tmp_path))
    assert classes.tolist() == [0, 1, 2, 3]
    assert truth.tolist() == [9]
    assert images.shape == (4, 3, 32, 32)
    assert images[2].unique().tolist() == pytest.approx([2 / 127.5 - 1])
    assert credit.cifar_task(str(tmp_path)).classes == 10


def test_channels_and_rows_are_in_place(tmp_path):
    pixels = torch.arange(3072) % 251
    image = cifar.read_cifar(folder(tmp_path, test=bytes([1, *pixels.tolist()])))[1][0]
    assert torch.allclose((image + 1) * 127.5, pixels.view(1, 3, 32, 32).float(), atol=1e-4)


CASES = {
    "no folder": (lambda path: path / "none", NotFoundError, "NO_CIFAR"),
    "an empty folder": (lambda path: path, NotFoundError, "NO_CIFAR"),
    "a name too long": (lambda path: path / ("x" * 300), StoreError, "DISK"),
    "a record cut short": (lambda path: folder(path, test=records(1)[:-1]), FormatError, "CIFAR"),
    "an empty file": (lambda path: folder(path, train=(b"",)), FormatError, "CIFAR"),
    "a class above nine": (lambda path: folder(path, test=records(10)), FormatError, "CIFAR"),
}


@pytest.mark.parametrize("case", CASES)
def test_malformed_files_of_cifar_are_typed_errors(tmp_path, case):
    make, kind, code = CASES[case]
    with pytest.raises(kind) as caught:
        cifar.read_cifar(make(tmp_path))
    assert caught.value.code == code


def test_the_pickled_version_is_named_and_not_opened(tmp_path):
    class Armed:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    for name in ("data_batch_1", "test_batch"):
        (tmp_path / name).write_bytes(pickle.dumps(Armed()))
    with pytest.raises(FormatError, match="CIFAR_PICKLE"):
        cifar.read_cifar(tmp_path)
