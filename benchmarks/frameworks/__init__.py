"""Each framework's own session and its usual add-on, beside coatcheck in the same framework.

    rows         what is measured, and which rows are a pair
    place        what every app is built with; the other files are named for their frameworks
    driving      frameworks called in process, each as its server calls it
    worker       a process that drives a framework's rows; `in_process` asks it
    server       a process that serves one row; `http` puts load on it
    pairs        the ratios, and who is ahead

Each is set up as its own documentation says, with the least that a choice of it costs: Beaker does
not save what was only read, files are not synced. Every app has the same paths, one for each act.
"""
