"""Run a study: check the request, open the results folder, and drive the sweep on a backend.

| to find | look in |
|---|---|
| the whole of a run, and how it is asked for | `run`, `options` |
| what refuses a study, in a run and in a dry run | `checks/` |
| the sweep on a cluster that is up: devices, what every trial is told | `drive` |
| signals, requests to pause and stop | `signals`, `steering` |
| the run in sweep.json | `session` |
| what a dry run tells | `dry_run`, `in_time` |
| the terminal while a sweep runs | `live_view` |
| a recorded trial run again | `rerun`, `rerun_task` |
"""
