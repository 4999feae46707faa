"""Asking the network itself: who answers at an address, and who has it on a segment.

May import: model. Codecs (bytes ↔ types) and state machines are apart from sockets, which only ``segment``
opens. Read ``echo.py`` first.
"""
