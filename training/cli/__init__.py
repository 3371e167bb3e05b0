"""Parts that the commands share.

- `options`: parser, flags, reading data and configuration by them, exit status
- `like`: the configuration of another fit as the defaults of the flags
- `printing`: notes, tables, the published model; `progress`: progress of a fit
- `interrupts`: SIGTERM and Ctrl-C
"""
