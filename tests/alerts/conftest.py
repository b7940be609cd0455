"""What a test needs and is not there is said aloud; where CI is set, it fails."""

import os
import shutil

import live
import pytest


def need(*programs):
    missing = [each for each in programs if not shutil.which(each)]
    if missing:
        words = f"there is no {', '.join(missing)}: run scripts/need-prometheus, then try again"
        pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)


@pytest.fixture(scope="session")
def promtool():
    need("promtool")
    return "promtool"


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    """One fleet and its Prometheus for all tests that break things; each leaves it well."""
    need("prometheus", "promtool", "openssl", "redis-server")
    with live.Fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet
