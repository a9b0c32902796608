"""From a configuration to providers, with everything that is wrong with it said at once."""

from __future__ import annotations

import difflib
import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.ral.provider import Provider

ENTRY_POINT_GROUP = "cu_market.providers"

DEFAULT_CONFIG: Mapping[str, Mapping[str, object]] = {"local": {"kind": "local"}}
"""What holds where no providers are configured: this machine."""

ProvidersConfig = Mapping[str, Mapping[str, object]] | Sequence[Mapping[str, object]]
"""Name -> {kind, ...options}, or a list of {name, kind, ...options}."""


def load_providers(config: ProvidersConfig | None = None) -> list[Provider]:
    """Returns the configured providers, in the configuration's order; this machine if None.

    A kind is an entry point of the group ``cu_market.providers`` or ``module:Class``. Its class is
    called as ``Class.from_config(name, options)``. A class may have a static
    ``conflicts(providers)`` that says what is wrong with several of its kind together.

    Raises:
        InvalidInputError: every problem of every provider.
    """
    problems: list[Problem] = []
    providers: list[Provider] = []
    entries = list(_list_entries(DEFAULT_CONFIG if config is None else config, problems))
    problems += _find_doubles([name for name, _ in entries])
    for name, options in entries:
        try:
            providers.append(_load(name, options))
        except InvalidInputError as error:
            problems += error.problems
    if not problems:
        problems += _find_doubles([provider.name for provider in providers])
        problems += _find_conflicts(providers)
    if problems:
        raise InvalidInputError(problems)
    return providers


def list_kinds() -> list[str]:
    """Returns the kinds that installed packages offer, sorted."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def _list_entries(
    config: object, problems: list[Problem]
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yields (name, options) of either form; what has neither form becomes a problem."""
    if isinstance(config, Mapping):
        pairs = [(name, options) for name, options in config.items()]
    elif isinstance(config, Sequence) and not isinstance(config, str):
        pairs = [(_take_name(item), item) for item in config]
    else:
        remedy = "write name: {kind: local}, one line a provider"
        problems.append(_problem("providers", config, "not a mapping or list", remedy))
        return
    if not pairs:
        remedy = "write local: {kind: local}, or leave providers out"
        problems.append(_problem("providers", config, "empty: nobody could bid", remedy))
    for name, options in pairs:
        if not isinstance(options, Mapping | None):
            remedy = "write {kind: local} and its options"
            problems.append(_problem(f"provider {name!r}", options, "not a mapping", remedy))
        elif not isinstance(name, str) or not name or "/" in name or name != name.strip():
            remedy = "write a name such as local"
            problems.append(_problem("providers: name", name, "not a name without '/'", remedy))
        else:
            yield name, options or {}


def _take_name(item: object) -> object:
    """Returns the name in an item of a list, or None."""
    return item.get("name") if isinstance(item, Mapping) else None


def _find_doubles(names: Sequence[str]) -> list[Problem]:
    """Returns a problem per name that is there more than once."""
    return [
        _problem("providers", name, f"{count} providers with one name", "give each its own name")
        for name, count in Counter(names).items()
        if count > 1
    ]


def _load(name: str, options: Mapping[str, object]) -> Provider:
    """Returns one provider, constructed and known to have what the market will call.

    Raises:
        InvalidInputError: its problems, whatever its constructor raised.
    """
    where = f"provider {name!r}"
    kind = options.get("kind", name if name in list_kinds() else None)
    construct = _find_constructor(where, kind)
    left = {key: value for key, value in options.items() if key not in ("kind", "name")}
    try:
        provider = construct(name, left)
    except InvalidInputError:
        raise
    except Exception as error:  # foreign code: whatever it raises is its problem
        raise InvalidInputError(
            [_problem(where, kind, _describe(error), "mend its options or the package")]
        ) from error
    if not isinstance(provider, Provider):
        lacks = [part for part in _contract() if not hasattr(provider, part)]
        what = f"{type(provider).__name__} is no provider: lacks {', '.join(lacks)}"
        remedy = "implement cu_market.ral.provider.Provider"
        raise InvalidInputError([_problem(f"{where}: kind", kind, what, remedy)])
    if provider.name != name:
        what = "calls itself otherwise than it is configured"
        remedy = f"its from_config must keep the name {name!r}"
        raise InvalidInputError([_problem(f"{where}: name", provider.name, what, remedy)])
    return provider


def _find_constructor(where: str, kind: object) -> Callable[[str, Mapping[str, object]], object]:
    """Returns the from_config of a kind.

    Raises:
        InvalidInputError: no such kind, two packages that both offer it, or it cannot be imported.
    """
    where = f"{where}: kind"
    kinds = list_kinds()
    if not isinstance(kind, str) or not kind:
        remedy = f"write kind: one of {', '.join(kinds)}, or module:Class"
        raise InvalidInputError([_problem(where, kind or "", "missing", remedy)])
    target = kind
    if ":" not in kind:
        targets = {p.value for p in entry_points(group=ENTRY_POINT_GROUP, name=kind)}
        if len(targets) != 1:
            raise InvalidInputError([_kind_problem(where, kind, kinds, sorted(targets))])
        target = targets.pop()
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
        construct: Callable[[str, Mapping[str, object]], object] = found.from_config
    except Exception as error:  # importing foreign code may raise anything
        remedy = "install what it needs, or name module:Class of a class with from_config"
        raise InvalidInputError([_problem(where, kind, _describe(error), remedy)]) from error
    return construct


def _kind_problem(where: str, kind: str, kinds: Sequence[str], targets: Sequence[str]) -> Problem:
    """Returns why a kind's name does not lead to one class."""
    if targets:
        what = f"offered by several packages: {', '.join(targets)}"
        return _problem(where, kind, what, "uninstall all but one, or write module:Class")
    near = difflib.get_close_matches(kind, kinds, n=1)
    known = f"known are {', '.join(kinds)}, or write module:Class"
    remedy = f"did you mean {near[0]!r}? {known}" if near else known
    return _problem(where, kind, "no such kind", remedy)


def _find_conflicts(providers: Sequence[Provider]) -> list[Problem]:
    """Returns what each class says of its providers together, where it says anything."""
    problems: list[Problem] = []
    for kind in dict.fromkeys(type(provider) for provider in providers):
        conflicts = getattr(kind, "conflicts", None)
        if conflicts is not None:
            problems += conflicts([p for p in providers if type(p) is kind])
    return problems


def _contract() -> list[str]:
    """Returns the names that a provider must have, sorted."""
    methods = [name for name in vars(Provider) if not name.startswith("_")]
    return sorted({*methods, *Provider.__annotations__})


def _describe(error: Exception) -> str:
    """Returns an exception as ``cannot be used: ValueError: its message``."""
    return f"cannot be used: {type(error).__name__}: {error}"


def _problem(where: str, value: object, what: str, remedy: str) -> Problem:
    """Returns a problem whose value is written as it was read."""
    return Problem(where=where, value=str(value), what=what, remedy=remedy)
