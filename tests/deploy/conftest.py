"""What a test needs and is not there is said aloud; where CI is set, it fails."""

import os

import fleet
import pytest


def need(thing, what):
    if thing:
        return
    words = f"{what}: install it, then try again"
    pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)


@pytest.fixture(params=fleet.OVERLAYS)
def overlay(request):
    need(fleet.kubectl(), "there is no kubectl (1.27 or later) to render overlays with")
    return fleet.Fleet(fleet.rendered(request.param))


@pytest.fixture
def production():
    need(fleet.kubectl(), "there is no kubectl (1.27 or later) to render overlays with")
    return fleet.Fleet(fleet.rendered("production"))


@pytest.fixture
def local():
    need(fleet.kubectl(), "there is no kubectl (1.27 or later) to render overlays with")
    return fleet.Fleet(fleet.rendered("local"))
