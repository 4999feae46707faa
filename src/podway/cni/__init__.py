"""The CNI contract: the shim, the wire message, the protocol types, the plugin.

Imports node and below. Read ``protocol.py`` first.
"""
