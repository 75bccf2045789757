"""The tests with faults: real processes, real sockets, and faults made on purpose."""
