"""Who asks, and what they may do.

A request goes through `gate.Gate`: its `Authorization` header is taken apart (`credentials`), checked
against passwords (`passwords`) or keys (`tokens`), within limits for failures (`failures`). That gives a
`rules.Caller`, whose groups the access file gives privileges on functions by name. `operations` says
which operation of REST and gRPC needs what. `audit` writes down who changed what.
"""
