"""Where cluster state lives: one protocol, one file per backend. Imports model only.

Read ``protocol.py`` first.
"""
