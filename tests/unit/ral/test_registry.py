from __future__ import annotations

import sys
from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from cu_market.domain.problem import InvalidInputError
from cu_market.ral import registry
from cu_market.ral.local.provider import LocalProvider
from cu_market.ral.registry import load_providers

HERE = __name__


class OwnProvider(LocalProvider):
    """A user's own, named by its import path."""


class RaisingProvider:
    @classmethod
    def from_config(cls, name: str, config: Mapping[str, object]) -> object:
        raise RuntimeError("no route to host")


class NoProvider:
    @classmethod
    def from_config(cls, name: str, config: Mapping[str, object]) -> object:
        return SimpleNamespace(name=name, pool=lambda: None)


class RenamedProvider(LocalProvider):
    @classmethod
    def from_config(cls, name: str, config: Mapping[str, object]) -> LocalProvider:  # type: ignore[override]
        return LocalProvider.from_config("another", config)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "own_providers", sys.modules[HERE])


def problems(config: object) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        load_providers(config)  # type: ignore[arg-type]
    return [str(problem) for problem in caught.value.problems]


def test_without_configuration_there_is_this_machine() -> None:
    (provider,) = load_providers()
    assert isinstance(provider, LocalProvider)
    assert provider.name == "local"


def test_options_reach_the_provider_and_order_is_kept() -> None:
    memory = {"memory": "100MiB", "cores": 0.5}
    loaded = load_providers({"b": {"kind": "local", **memory}, "a": {"kind": "local", **memory}})
    assert [p.name for p in loaded] == ["b", "a"]
    assert all(p.pool().capacities[p.name].cpu_millis == 500 for p in loaded)


def test_kind_may_be_left_out_where_the_name_is_one() -> None:
    assert load_providers({"local": {}})[0].name == "local"


def test_a_list_with_names_is_the_same() -> None:
    assert load_providers([{"name": "mine", "kind": "local"}])[0].name == "mine"


def test_a_users_own_by_import_path() -> None:
    (provider,) = load_providers({"mine": {"kind": "own_providers:OwnProvider"}})
    assert type(provider) is OwnProvider


def test_all_problems_of_all_providers_at_once() -> None:
    found = problems(
        {
            "a": {"kind": "locl"},
            "b": {"kind": "local", "cores": -1},
            "c": {"kind": "own_providers:RaisingProvider"},
            "d": {"kind": "own_providers:NoProvider"},
            "e": {"kind": "own_providers:Missing"},
            "f": {"kind": "no_such_module:X"},
            "g": {},
            "h": 7,
            "i/j": {"kind": "local"},
            "k": {"kind": "own_providers:RenamedProvider"},
        }
    )
    text = "\n".join(found)
    for part in (
        "provider 'a': kind='locl': no such kind; did you mean 'local'? known are catalog,",
        "provider 'b': cores='-1'",
        "provider 'c'='own_providers:RaisingProvider': cannot be used: RuntimeError: no route",
        "provider 'd': kind='own_providers:NoProvider': SimpleNamespace is no provider: lacks bid",
        "provider 'e': kind='own_providers:Missing': cannot be used: AttributeError",
        "provider 'f': kind='no_such_module:X': cannot be used: ModuleNotFoundError",
        "provider 'g': kind='': missing; write kind: one of catalog,",
        "provider 'h'='7': not a mapping",
        "providers: name='i/j': not a name",
        "provider 'k': name='another': calls itself otherwise",
    ):
        assert part in text
    assert len(found) == 10


def test_two_with_one_name() -> None:
    one = {"name": "local", "kind": "local", "cores": 0.1, "memory": "1MiB"}
    (found,) = problems([one, one])
    assert found == "providers='local': 2 providers with one name; give each its own name"


def test_two_local_ones_that_sell_the_machine_twice() -> None:
    (found,) = problems({"a": {"kind": "local"}, "b": {"kind": "local"}})
    assert "together, this machine has" in found


@pytest.mark.parametrize("config", [{}, [], "local", 3])
def test_nothing_to_load_is_a_problem(config: object) -> None:
    assert len(problems(config)) == 1


def test_a_kind_of_two_packages_is_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        SimpleNamespace(name="k", value="one:P"),
        SimpleNamespace(name="k", value="two:P"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda **_: points)
    (found,) = problems({"x": {"kind": "k"}})
    assert "offered by several packages: one:P, two:P" in found
