"""What is remembered: functions, immutable versions, bundles, and the history of changes, in LMDB.

`environment` owns the file and its map, `writer` the one thread that writes, `records` the keys and
values, `transactions` what one change does to them, `sealing` and `vault` keep secrets, `migrations` bring an older file up to date, `reads` and
`store` are what the service uses, `backups` gives a store away and takes it back.
"""
