"""deploy/Dockerfile, built: the image has what Dagster's processes load in it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

CHECKOUT = Path(__file__).parents[2]
OPTIONS = "CU_MARKET_TEST_DOCKER_BUILD"
"""More options of ``docker build``: how a container reaches a package index from here."""

LOADED = """
import dagster_k8s, dagster_postgres, dagster_webserver, pynvml
import cu_market.examples.flights.definitions
from cu_market import MarketK8sRunLauncher
from cu_market.ral.registry import load_providers
load_providers({"cluster": {"kind": "kubernetes", "pools": [
    {"name": "general", "core_usd_per_hour": 0.04, "gb_usd_per_hour": 0.005}]}})
"""


def docker(*arguments: str, is_checked: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["docker", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert not is_checked or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def base_image() -> str:
    text = (CHECKOUT / "deploy" / "Dockerfile").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith("FROM "))


@pytest.fixture
def image() -> Iterator[str]:
    if shutil.which("docker") is None or docker("info", is_checked=False).returncode:
        pytest.skip("no docker daemon answers")
    base = base_image()
    for command in (("image", "inspect", base), ("pull", base)):
        if docker(*command, is_checked=False).returncode == 0:
            break
    else:
        pytest.skip(f"{base} cannot be had")
    name = "cu-market-test:1"
    options = shlex.split(os.environ.get(OPTIONS, ""))
    docker("build", *options, "-f", "deploy/Dockerfile", "-t", name, ".")
    yield name
    docker("image", "rm", name)


def test_the_image_has_what_its_processes_load(image: str) -> None:
    def run(*command: str) -> str:
        return docker("run", "--rm", "--network", "none", image, *command).stdout

    run("python", "-W", "ignore", "-c", LOADED)
    for program in ("dagster", "dagster-daemon", "dagster-webserver", "cu-market"):
        assert "Usage:" in run(program, "--help")
    run("bash", "-c", "test -d $DAGSTER_HOME")  # bash is what waits in deploy/standalone.yaml
