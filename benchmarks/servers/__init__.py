"""Parts of `benchmarks/serving.py`: contenders, their processes, the load on them, CPU and memory.

==============  =================================================================================
`work`          the two models that are served
`formats`       request bodies and how answers are read
`contenders`    the servers that are compared, and how each is started
`usage`         CPU and memory of a tree of processes, and of all others
`processes`     our own service as a process; ask and stop any server
`server`        a running contender: check, load and measure it
`wrk`           closed-loop load by wrk (`post.lua` is its script)
`engine`        ONNX Runtime without a server, the upper bound
`mixed`         single rows during bulk requests
`overload`      five times the capacity, by `open_loop` (client) and `probes` (health)
`proxy`         nginx in front of a server
`plan`          the cases of each mode
`summary`       medians over repeats, and the tables
`charts`        the image
==============  =================================================================================

`engine`, `open_loop` and `probes` are also programs: they run in processes of their own. `footprint.py` and
`restoration.py` import `processes`, `usage` and `work`; nobody else imports this package. It may not import
`training`: models are fitted by the command, in another process.
"""
