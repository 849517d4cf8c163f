"""What tests of all ports share."""

from __future__ import annotations

import pytest

from tests.certificates import Certificate, make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One for the tests of a module."""
    return make_certificate(tmp_path_factory.mktemp("tls"))
