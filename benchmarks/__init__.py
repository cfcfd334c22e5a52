"""coatcheck beside other session libraries and plain drivers, in one run: `make bench`.

Machines drift, so nothing is measured alone: every section takes many short rounds, and each round
measures every row once (A B C, A B C, …). What is printed are medians over the rounds, and ratios
between rows of the same run. Compare ratios; microseconds are of the machine they were taken on.

    in_process   what a session adds to one ASGI request, as CPU time, without sockets
    codec        sealing and opening a session cookie
    http         requests a second through uvicorn, over loopback
    frameworks   each framework's own session and its usual add-on, in process and over HTTP
    stores       loads and saves a second, straight at the stores, beside the plain drivers
    scale        a store with a million sessions; only where it is asked for: `--only scale`
"""
