"""Frozen value types shared by every room. Imports nothing of Podway and does no I/O.

Read ``objects.py`` first (what a kernel can hold), then ``resources.py`` (what people declare).
"""
