"""`sanfran up`: the whole engine on this machine, one process for each service, kept alive.

`engine` knows the four services and the order of their end; `service` keeps one process alive;
`folder` owns what lies on disk; nothing here knows what a service does.
"""
