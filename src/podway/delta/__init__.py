"""Pure: desired vs actual → ordered operations. Imports model and plan.

Read ``differ.py`` first.
"""
