"""Confirmed effects, from the runs that a plan asked for and nothing else.

`confirm_runs` lays the runs out as arms × seeds, `estimands` says what the design can be asked,
`contrasts` estimates it, `effects` gives the verdicts, `effects_table` the tables, `verdicts` those on hypotheses.

| to find | look in |
|---|---|
| standard errors, degrees of freedom, Holm's adjustment | `contrasts` |
| runs that collapsed or diverged | `collapse` |
| what the choice of test images adds | `images` |
| simple effects, and what their selection costs | `simple_effects`, `selected` |
| means at pairs of levels, for the figure of an interaction | `interaction_means` |
| the best arm | `best_arm` |
| whether the arms had the same chance | `fairness` |
| looks at the confirm runs, and what they may spend | `looks`, `looks_taken`, `spending` |
| plans that ended before the one in force | `earlier_plans` |
| power and the noise floor, before any claim | `power`, `power_preview` |
"""
