"""The configuration that the demo starts from where there is none."""

from __future__ import annotations

DAGSTER_YAML = """\
telemetry:
  enabled: false

run_launcher:
  module: cu_market
  class: MarketRunLauncher
  config:
    market:
      on_market_failure: native
      defaults: {cpu: 1, memory: 1GiB, duration_seconds: 10}

run_monitoring:
  enabled: true
  poll_interval_seconds: 10
"""

WORKSPACE_YAML = """\
load_from:
  - python_module:
      module_name: cu_market.examples.flights.definitions
      location_name: flights
      attribute: defs
"""
