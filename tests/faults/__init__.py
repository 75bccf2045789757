"""The slow ring: real processes, real sockets, and faults made on purpose."""
