import registry
from registry import cli, publish, pull, verify
from tests.support.cells import python


def test_every_exported_name_is_there():
    assert list(registry.__all__) == sorted(registry.__all__)
    for name in registry.__all__:
        assert getattr(registry, name) is not None


def test_functions_are_not_hidden_by_the_modules_of_their_name():
    assert callable(cli.main)
    assert callable(pull)
    assert callable(publish)
    assert callable(verify)


def test_the_package_alone_loads_nothing():
    code = "import sys, registry; print(sorted(m for m in ('torch', 'numpy', 'pydantic', 'typer') if m in sys.modules))"
    assert python(code).stdout == "[]\n"
