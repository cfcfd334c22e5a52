"""The real servers that the tests run against: started on free ports, stopped at the end.

`process` starts, freezes, kills and restarts a program; `proxy` stands between a client and a
server and slows, cuts or resets what passes. One file a server beside them says how it is started,
and has `url(folder)`, the URL of one that a whole test run shares, with a namespace of that
folder's own, and `dump(folder)`, all that a thief of that namespace would get.
"""
