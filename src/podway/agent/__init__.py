"""The asyncio loop around the engine: CNI server, kernel monitor, health, metrics.

Imports cni and below. Read ``agent.py`` first.
"""
