"""Other clients' wires: each dialect shows the runs of the log in another client's protocol."""
