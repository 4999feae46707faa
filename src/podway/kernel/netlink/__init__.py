"""rtnetlink and traffic control: pure codecs, and one socket class. Read ``wire.py`` first."""
