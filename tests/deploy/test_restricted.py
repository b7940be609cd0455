"""Every program does its work as shut in as the manifests have it: agents answer, and `check --health` tells when they are ready."""

from pods import assert_agents_answer


def test_agents_answer(redis, pods, addresses):
    assert_agents_answer(pods, addresses)


def test_what_writes_beside_its_mounts_fails(pods):
    ran = pods["storyfleet"].run("up", "--data", "/data")
    assert ran.returncode != 0
    assert "Read-only file system" in ran.stderr
