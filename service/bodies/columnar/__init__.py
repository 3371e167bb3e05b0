"""Arrow streams and Parquet files: count what they inflate to, then read them."""
