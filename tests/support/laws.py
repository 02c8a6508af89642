"""hypothesis, for tests that also run where it is not installed: there the laws are skipped and the rest of a file runs."""

import pytest

try:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
except ModuleNotFoundError:

    class _Absent:
        """Any strategy and any setting, for laws that are skipped."""

        def __getattr__(self, name):
            return self

        def __call__(self, *args, **kwargs):
            return self

        def __or__(self, other):
            return self

        __add__ = __or__

    def given(*strategies, **named):
        def skipped(law):
            @pytest.mark.skip(reason="hypothesis is not installed")
            def test():
                pass

            return test

        return skipped

    def settings(**chosen):
        return lambda law: law

    HealthCheck = st = _Absent()

__all__ = ["HealthCheck", "given", "settings", "st"]
