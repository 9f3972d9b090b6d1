"""A sweep as a state machine: which trial runs next, what a report means, when it is over. Imports no Ray or torch.

| to find | look in |
|---|---|
| the machine: `next`, `report`, `ended` | `state_machine` |
| the first row of a trial, the keys of its data | `task` |
| the rows of a test result | `test_rows` |
| how the plan is made, read, and turned into runs | `plan_store` |
| a budget in time, and what epochs take | `time_budget`, `epoch_times` |
| failed trials that run again | `reopened` |
| explanations of failures, and how often they are retried | `crashes` |
| progress, and the time that the driver takes | `progress` |
"""
