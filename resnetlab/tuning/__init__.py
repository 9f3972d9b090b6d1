"""The engine room: Optuna proposes, ASHA stops, Ray Tune runs. Only here are `ray` and `optuna` known."""
