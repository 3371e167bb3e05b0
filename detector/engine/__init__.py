"""Run the graphs of a model folder; ../README.md lists the modules."""
