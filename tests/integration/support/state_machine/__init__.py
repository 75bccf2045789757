"""The parts of test_state_machine.py: choices, world, simulation, promises, disturbances."""
