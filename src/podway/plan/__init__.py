"""Pure: (Snapshot, Endpoints, NodeFacts) → Desired, as fragments. Imports model and ipam.

Read ``planner.py`` first.
"""
