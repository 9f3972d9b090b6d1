"""What refuses a study before anything runs, for a run and a dry run alike; `accept` goes through all of it.

| to find | look in |
|---|---|
| the gate itself, the results folder | `accept` |
| stage, splits, sizes, rows of another study or of other data | `request` |
| whether a folder's results are of this study, or of one that asked for less | `extend` |
| arms that would train alike | `duplicate_arms` |
| the study's own code: kept and compared | `own_code` |
| the same tried before the first trial | `rehearsal`, and in a process of its own (`own_process`) `rehearsal_process` |
| weights to begin with | `initial_weights` |
| results of other folders, told to the sampler | `warm_start` |
| what a processor computes in software | `precision` |
| the record of the data in data.json | `dataset_record` |
"""
