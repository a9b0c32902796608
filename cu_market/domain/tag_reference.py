"""The reference page of every tag, written from the vocabulary.

``python -m cu_market.domain.tag_reference > docs/tags.md`` writes it; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable

from cu_market.domain.vocabulary import RUN_TAGS, STEP_TAGS, WRITTEN_TAGS, TagRule

_HEAD = """\
# Tags

Written from the vocabulary in `cu_market/domain/vocabulary.py` by
`python -m cu_market.domain.tag_reference > docs/tags.md`.

`op_tags=cu_market.compute(cpu=2, memory="8GiB")` writes these tags; they can be written by hand,
too. A misspelt or unreadable one is named before anything is spent, with the nearest name.
GB is 10^9 bytes and GiB is 2^30 bytes; a size may carry its unit (`8GiB`), and so may a duration
(`90s`, `5m`, `2h`).

For each of cores, memory and duration the first of these that says something counts: the launch's
`cu/for.<op or asset>`; the op's `cu/partitions`; with `cu/sizing` at `auto` and enough history, the
forecast; the op's tags, then requests in its `dagster-k8s/config` tag; the job's and the run's
tags; for a step that has never ended well, what other steps of its code location have shown (under
`cu/risk` `cost` before the op's tags); the defaults (one core, 1 GiB, one minute).
`cu/min_cpu_cores` and `cu/min_memory_gb` are floors under all of them. A partition with fewer than
three good ends of its own counts its neighbours' attempts after its own, the nearest first.
"""

_STEP = """
## Of a step: on an op or asset, or on a job or run for all its steps

`argument` is the name in `compute()` and in the settings of `cu/for.` and `cu/partitions`.
"""

_SETTINGS = """
## Of some steps only

| tag | where | meaning | example |
|---|---|---|---|
| `cu/partitions` | op | Sizes of particular partitions: a JSON object from a shell-style pattern \
of the partition key to settings; the first match counts. | `{"2024-*": "memory=8GiB,cpu=2"}` |
| `cu/for.<op or asset>` | job, run | Settings for one op or asset; an asset key's parts are \
joined by `.`; names within a setting by `\\|`. | `memory=8GiB,cpu=2` |
| `cu/for.<op or asset>@<partition>` | run | The same for partitions whose key matches a \
shell-style pattern; comes before the one without. | `memory=16GiB` |
"""

_RUN = """
## Of a run: on a job or a run
"""

_WRITTEN = """
## Written by the market

By a market launcher, as it launches a run. Ignored when tags are read.

| tag | meaning |
|---|---|
"""


def reference_page() -> str:
    """Returns the page as Markdown."""
    written = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in WRITTEN_TAGS.items())
    return (
        _HEAD + _STEP + _table(STEP_TAGS) + _SETTINGS + _RUN + _table(RUN_TAGS) + _WRITTEN + written
    )


def _table(rules: Iterable[TagRule]) -> str:
    rows = [
        f"| `{rule.name}` | {f'`{rule.argument}`' if rule.argument else ''} | {rule.unit} "
        f"| {', '.join(rule.places)} | {rule.meaning} | `{rule.example}` |"
        for rule in rules
    ]
    head = [
        "",
        "| tag | argument | unit | where | meaning | example |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    print(reference_page(), end="")
