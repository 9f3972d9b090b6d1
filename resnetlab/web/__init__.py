"""The studies of a folder in a browser, running or ended: `resnetlab serve`.

| to find | look in |
|---|---|
| the server: its address, its start and its end | `server` |
| who may see it: the token, the host, the headers of every answer | `access` |
| addresses and answers; the stream by which a page follows a sweep | `app` |
| the studies of the folder, read again as they change | `studies` |
| what each page says, before it is HTML | `pages`, `curves` |

HTML, styles and script lie beside these files; colours and type are the report's own (`report/report.css`).
"""
