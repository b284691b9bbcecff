"""The command line. `main.py` finds sub-commands by entry points; each other module here is one command."""
