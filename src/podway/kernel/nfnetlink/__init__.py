"""nfnetlink: set elements, rule digests, events and conntrack entries, raw. Read ``nftwire.py`` first."""
