"""The commands behind the scripts in `sweeps/`, one module each. This package may import every other; none imports it.

| script            | module       | what it does                                                      |
|-------------------|--------------|-------------------------------------------------------------------|
| `ablation.py`     | `ablation`   | run a study and write its report                                  |
| … `--dry-run`     | `dry_run`    | print the plan and its cost; also for `reproduce.py`              |
| … `--settings`    | `settings`   | list the studies and every setting                                |
| `status.py`       | `status`     | print the progress and the conclusions of a sweep                 |
| `report.py`       | `report`     | regenerate a report, or one figure                                |
| `trial.py`        | `trial`      | rerun one trial, judge the outcome, export the network            |
| `export.py`       | `export`     | send results to Optuna, TensorBoard, MLflow or Weights & Biases   |
| `analyse.py`      | `analyse`    | compare runs that were made elsewhere, from a table               |
| `reproduce.py`    | `reproduce`  | compare the rerun of a published study with its published results |
| `calibrate.py`    | `calibrate`  | measure error rates on simulated sweeps                           |
| `choose_fonts.py` | `fonts`      | link fonts into a folder for a study                              |

They share `options` (command-line options), `requested` (the study and the run that the options ask for) and
`exit_codes` (errors to messages and exit codes). What takes long to import (pandas, Ray, torch) is imported inside
functions, so that `--help` and refusals are quick.
"""
