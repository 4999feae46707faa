"""Many nodes on one machine: segments, routers, nodes, pods.

Imports observe and below. Read ``lab.py`` first.
"""
