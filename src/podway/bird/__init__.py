"""BIRD 2 as Podway's BGP speaker: its configuration, its control socket, its process.

Imports ``model`` only. Read ``render`` first, then ``client`` and ``process``.
"""
