"""A project: functions that a file names, `sanfran.yaml`, and what it takes to have a service match it.

`fields` says what the file may have, `file` reads it, `differences` compares without I/O, `deploy` acts;
`templates` has first projects.
"""
