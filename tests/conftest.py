"""What tests of all ports share, and how Hypothesis runs: how fast the machine is says nothing about the code."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.certificates import Certificate, make_certificate

# The first draw of a text on a clean checkout takes two seconds: Hypothesis makes its tables of characters.
settings.register_profile("suite", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One for the tests of a module."""
    return make_certificate(tmp_path_factory.mktemp("tls"))
