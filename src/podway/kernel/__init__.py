"""The only room that opens a netlink socket, loads libnftables, enters a namespace or writes a sysctl.

Codecs (bytes ↔ values) are apart from sockets. Imports delta and below. Read ``facade.py`` first.
"""
