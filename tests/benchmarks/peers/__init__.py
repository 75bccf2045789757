"""The alternatives to Unspool. Each is a small application of a package that users would take."""
