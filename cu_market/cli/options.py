"""Options that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Home = Annotated[
    str | None,
    typer.Option(
        "--home",
        help="Dagster home. Left out: $DAGSTER_HOME, else the demo's home, else ./dagster_home.",
    ),
]
