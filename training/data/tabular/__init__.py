"""From files to columns, and what the columns are.

- `options`: what the user or a model says about the files
- `text`: CSV, TSV and other delimited text; `numbers`: text -> numbers; `ts_files`: the `.ts` files of sktime
- `sources`: files of any form, or several of them, as columns
- `judging`: columns that are no features: indices, empty ones; columns that look like labels or counters
"""
