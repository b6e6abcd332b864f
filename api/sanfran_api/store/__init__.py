"""What is remembered: functions, immutable versions, bundles, and the history of changes, in LMDB.

`environment` owns the file and its map, `writer` the one thread that writes, `records` the keys and
values, `transactions` what one change does to them, `store` is what the service uses.
"""
