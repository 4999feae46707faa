"""Pure address management: (blocks, request) → change or Exhausted. Imports model only.

Read ``state.py`` first.
"""
