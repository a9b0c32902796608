"""The notebook goes from a trace to a forecast to what it saves, on its own trace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "trace_to_savings.ipynb"


@pytest.mark.integration
@pytest.mark.timeout(1800)
def test_the_notebook_runs_and_its_forecast_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.delenv("CU_MARKET_TRACE", raising=False)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "strip outputs first"
    nbclient.NotebookClient(
        notebook, timeout=600, startup_timeout=600, kernel_name="python3"
    ).execute(cwd=tmp_path)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    printed = "".join(output.get("text", "") for output in outputs)
    assert "120 tasks of 2 processes" in printed
    saved = re.search(r"saved: (\d\.\d+)", printed)
    assert saved is not None
    assert 0.8 < float(saved.group(1)) < 1
