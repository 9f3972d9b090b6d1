"""Run a study: check the request, open the results folder, and drive the sweep on a backend.

| to find | look in |
|---|---|
| the whole of a run | `run` |
| checks that a run and a dry run share | `request`, `duplicate_arms`, `precision`, `initial_weights` |
| a study's own code: kept, compared, tried before the first trial | `own_code`, `rehearsal` |
| what a dry run tells | `dry_run`, `in_time` |
| the record of the data in data.json | `dataset_record` |
| the terminal while a sweep runs | `live_view` |
| a recorded trial run again | `rerun`, `rerun_task` |
"""
