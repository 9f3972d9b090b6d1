"""The command `resnetlab`, one module per subcommand. This room may import every other; only `api` imports it.

| command     | script            | what it does                                                      |
|-------------|-------------------|-------------------------------------------------------------------|
| `sweep`     | `ablation.py`     | run a study and write its report                                  |
| `status`    | `status.py`       | print the progress and the conclusions of a sweep                 |
| `serve`     | `serve.py`        | show the studies of a folder in a browser, and follow them        |
| `pause`     | `pause.py`        | let a running sweep pause                                         |
| `resume`    | `resume.py`       | let a paused sweep go on                                          |
| `stop`      | `stop.py`         | end a running sweep in order                                      |
| `report`    | `report.py`       | regenerate a report, or one figure                                |
| `trial`     | `trial.py`        | rerun one trial, judge the outcome, export the network            |
| `export`    | `export.py`       | write tables for a paper and an archive, or send results to tools |
| `verify`    | `verify.py`       | check an archive that was made for reviewers                      |
| `compare`   | `compare.py`      | lay results folders of one study side by side, and pool them      |
| `analyse`   | `analyse.py`      | compare runs that were made elsewhere, from a table               |
| `reproduce` | `reproduce.py`    | compare the rerun of a published study with its published results |
| `calibrate` | `calibrate.py`    | measure error rates on simulated sweeps                           |
| `new`       |                   | write a study for a folder of images                              |
| `fonts`     | `choose_fonts.py` | link fonts into a folder for a study                              |

The module of a command has its options (`main`) and its body; `main.py` puts the commands together, and makes each one
a script of `sweeps/`. They share `options` (command-line options), `requested` (the study and the run that the options
ask for), `run_and_report`, `dry_run`, `settings` (what `sweep --settings` lists), `asking` (what a running sweep is
asked for) and `exit_codes` (errors to messages and exit codes). What takes long to import (pandas, Ray, torch) is
imported inside functions, so that `--help` and refusals are quick.
"""
