"""Run a sweep on Ray: the only room that imports Ray.

| to find | look in |
|---|---|
| how a sweep's trials become trials of Ray Tune | `backend` |
| what a worker process does with a trial | `worker` |
| how Ray is started or joined, and its token | `cluster` |
| checks of the nodes before the first trial | `preflight` |
| how many trials fit, as nodes come and go | `capacity` |
| how many trials share a GPU (`auto`) | `gpu/` |
| what happens when a process, a node or the cluster dies | `worker_death`, `watchdog`, `reaper` |
"""
