"""Dynamic negotiation manager: a pure planner from requests, bids and capacity to a plan."""

from cu_market.dnm.objective import Surcharge
from cu_market.dnm.offers import RunningLease
from cu_market.dnm.planner import plan
from cu_market.dnm.programs.solve import Solver, SolverAnswer

__all__ = ["RunningLease", "Solver", "SolverAnswer", "Surcharge", "plan"]
