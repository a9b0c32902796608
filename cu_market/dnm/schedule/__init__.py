"""Joint planning: a graph of tasks with a finish time on CUs that they share."""

from cu_market.dnm.schedule.joint_plan import JointPlan, PlannedCU, PlannedStay
from cu_market.dnm.schedule.planner import Budget, plan_workload
from cu_market.dnm.schedule.verify import Flaw, flaws
from cu_market.dnm.schedule.workload import MachineType, Task, Workload

__all__ = [
    "Budget",
    "Flaw",
    "JointPlan",
    "MachineType",
    "PlannedCU",
    "PlannedStay",
    "Task",
    "Workload",
    "flaws",
    "plan_workload",
]
