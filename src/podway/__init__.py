"""Podway: the pod network of Linux clusters.

Start with ``docs/design.md``, then ``model/objects.py`` (what a kernel can hold),
``plan/planner.py`` (what this node's kernel should hold) and ``node/engine.py`` (how it gets there).
"""

__version__ = "0.1.0"
