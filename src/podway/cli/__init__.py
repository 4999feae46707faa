"""The ``podway`` command: one file per group of commands, imported when called.

Read ``main.py`` first.
"""
