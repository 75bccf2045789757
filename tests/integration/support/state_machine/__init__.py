"""The parts of test_state_machine.py, from its pieces to the steps of readers and of Redis."""
