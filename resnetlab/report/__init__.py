"""The report: findings, figures, sections, the HTML page and the summary in the terminal, from the tables alone.

| to find | look in |
|---|---|
| what is computed from the tables, once | `findings` |
| a section, a figure | `sections/`, `figures/` (listed in `page` and `figures/catalog`) |
| the sentences that answer the study | `answer` |
| the page and its parts | `page`, `layout`, `report.html`, `report.css`, `report.js` |
| how figures become files | `rendering`, `style.mplstyle` |
| numbers and comparisons as text | `formatting` |
| the summary in the terminal | `terminal` |
| the report on runs made elsewhere | `foreign` |
| which files are written | `build` |
"""
