"""The whole stack on one machine: a real nats-server, a real PostgreSQL, Peakclip's processes, supervised.

May import the library; knows the processes by their command line and entry points only.
"""
