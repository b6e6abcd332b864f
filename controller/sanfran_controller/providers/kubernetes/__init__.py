"""Pods of a Kubernetes cluster: the only package of SanFran that imports the Kubernetes client.

`provider` fills `PodProvider`, on parts that each do one thing: `template` makes what is created, `facts` reads what is
there, `reflector` follows it, `book` says which controllers live, `gate` holds creates back, `labels` and `events` tell
people. `api` makes the calls, and `calls` lists which.
"""
