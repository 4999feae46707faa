"""Podway beside what you would pick instead, measured in one run, side by side, in turn.

``python -m bench [ROW…]`` makes namespaces of its own and runs itself inside them (``inside``): when
it ends, however it ends, they end. Read ``goals`` first, then ``measure``, then a file of ``rows``.
"""
