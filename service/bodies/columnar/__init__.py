"""Read Arrow streams and Parquet files, whose inflated size is checked first: docs/decisions/0023."""
