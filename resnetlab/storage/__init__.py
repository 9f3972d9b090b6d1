"""The results folder: one writer, files that are replaced as a whole, tables that survive a kill.

| to find | look in |
|---|---|
| the tables and their columns | `schema` |
| how rows are added, made durable and merged | `store`, `segment`, `parquet` |
| files on a disk or behind a URL, and retries | `results_folder`, `layout` |
| who may write a folder | `lease` |
| what a running driver was asked to do | `control` |
| whether two folders have the same results | `content_hash` |
"""
