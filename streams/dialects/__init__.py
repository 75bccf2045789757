"""Other clients' wires: each dialect shows the runs of the one log in another protocol's words."""
