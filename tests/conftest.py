"""What tests of all ports share, and how Hypothesis runs: how fast the machine is says nothing about the code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.certificates import Certificate, make_certificate
from tests.needed import packages_of

# The first draw of a text on a clean checkout takes two seconds: Hypothesis makes its tables of characters.
settings.register_profile("suite", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One for the tests of a module."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End with the one line that installs what tests were skipped for want of."""
    packages = packages_of(_skip_reasons(terminalreporter))
    if packages:
        terminalreporter.write_line(f"For the skipped tests: apt-get install {' '.join(packages)}", yellow=True)


def _skip_reasons(terminalreporter: pytest.TerminalReporter) -> Iterator[str]:
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple):
            yield report.longrepr[2]
