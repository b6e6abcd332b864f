"""npm builds: from an upload with dependencies to its `node_modules`, in a confined child process.

`plan` decides without I/O whether and how; `confine` is what the child becomes before it is npm; `npm`
runs one; `cache` keeps what came of them; `builder` admits, shares and remembers.
"""
