"""Read Arrow streams and Parquet files, whose inflated size is checked first: docs/decisions/0023.

- `arrow`: entry points; imports pyarrow, so it is only imported when such a body arrives
- `flatbuffers`: sizes of the buffers of an Arrow message
- `parquet_outline`: rows, columns and page sizes of a Parquet file
- `thrift`: reader of the compact protocol of Parquet's footer and page headers

Only `arrow` knows pyarrow and the types of `bodies`; the others know bytes and raise ValueError.
"""
