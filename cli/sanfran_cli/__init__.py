"""The command `sanfran`: functions from the command line, and the whole engine on one machine.

Speaks HTTP to the api service and starts the services as processes; imports none of them.
"""
