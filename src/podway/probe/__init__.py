"""Asking the network itself: who answers at an address, and who has it on a segment.

May import: model. Codecs (bytes ↔ types) are apart from sockets. Read ``echo.py`` first.
"""
