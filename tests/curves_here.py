"""Report made-up learning curves to a rule, as they would arrive from trials side by side."""


def play(decide, curves, epochs, rng):
    """Report curves in a random interleaving; returns each trial's last epoch."""
    at = {trial: 0 for trial in range(len(curves))}
    ended = {}
    while at:
        trial = rng.choice(sorted(at))
        at[trial] += 1
        if at[trial] == epochs or not decide(trial, at[trial], curves[trial][at[trial] - 1] / 20):
            ended[trial] = at.pop(trial)
    return ended
