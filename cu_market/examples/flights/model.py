"""A model of arrival delays, trained with scikit-learn, and a picture of how well it does.

scikit-learn and matplotlib are imported by the step that uses them: whoever loads the definitions,
such as the warm worker that every step is forked from, stays small, quick and without threads.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from cu_market import compute

if TYPE_CHECKING:
    import numpy as np

CATEGORIES = ["carrier", "origin"]
NUMBERS = [
    "month", "hour", "distance", "seats", "age_years", "lat", "lon", "departures", "delay_before",
    "temp_mean", "humid_mean", "wind_speed_worst", "precip_mean", "pressure_mean", "visib_worst",
]  # fmt: skip
TARGET = "arr_delay"
TRAINING_ROWS = 30_000
SEED = 2013


@dg.asset(group_name="model", op_tags=compute(cpu=2, memory="512MiB"))
def training_table(flights_joined: pd.DataFrame, hourly_features: pd.DataFrame) -> pd.DataFrame:
    """What a model may know before departure, and the delay it shall foretell: a row a flight."""
    known = hourly_features[["origin", "time_hour", "departures", "delay_before"]]
    table = flights_joined.merge(known, on=["origin", "time_hour"], how="left")
    for column in CATEGORIES:
        table[column] = table[column].astype("category").cat.codes.astype("float32")
    chosen = table[[*CATEGORIES, *NUMBERS, TARGET]].astype("float32")
    return chosen.sample(frac=1, random_state=SEED).reset_index(drop=True)


@dg.asset(group_name="model", op_tags=compute(cpu=2, memory="640MiB"))
def delay_model(training_table: pd.DataFrame) -> dg.MaterializeResult[Any]:
    """A random forest that foretells the arrival delay, tried on flights that it never saw."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.metrics import mean_absolute_error

    table = training_table.dropna()
    seen, unseen = table[:TRAINING_ROWS], table[TRAINING_ROWS : 2 * TRAINING_ROWS]
    features = [*CATEGORIES, *NUMBERS]
    model = RandomForestRegressor(
        n_estimators=16, max_depth=12, max_features=0.4, min_samples_leaf=20, random_state=SEED
    )
    model.fit(seen[features], seen[TARGET])
    foretold = model.predict(unseen[features])
    naive = mean_absolute_error(unseen[TARGET], [seen[TARGET].median()] * len(unseen))
    error = mean_absolute_error(unseen[TARGET], foretold)
    return dg.MaterializeResult(
        value=model,
        metadata={
            "mean_absolute_error_minutes": float(error),
            "error_of_the_median_minutes": float(naive),
            "picture": dg.MetadataValue.md(
                f"![foretold and real delays]({_picture(unseen[TARGET].to_numpy(), foretold)})"
            ),
        },
    )


def _picture(real: np.ndarray[Any, Any], foretold: np.ndarray[Any, Any]) -> str:
    """Returns a PNG as a data URI: how flights are spread over foretold and real delays."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Without pyplot: it keeps every figure, and looks for a display.
    figure = Figure(figsize=(5, 4), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hexbin(foretold, real, gridsize=40, bins="log", extent=(-25, 60, -60, 180), cmap="viridis")
    axes.axline((0, 0), slope=1, color="tab:red", linewidth=1)
    axes.set(xlabel="foretold delay [min]", ylabel="real delay [min]", ylim=(-60, 180))
    axes.set_title("Arrival delays of flights that the model never saw")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
