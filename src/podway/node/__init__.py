"""The synchronous engine of one node: local database, planner, apply. No asyncio.

Shared by cni and agent. Imports kernel, store and below. Read ``engine.py`` first.
"""
