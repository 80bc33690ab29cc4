"""Reads JSON lines and writes them as Parquet with DuckDB, on one thread: FILE OUT."""

import sys

import duckdb

connection = duckdb.connect()
connection.execute("SET threads = 1")
connection.execute(
    f"COPY (SELECT * FROM read_json_auto('{sys.argv[1]}', format = 'newline_delimited')) "
    f"TO '{sys.argv[2]}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
)
print(connection.execute(f"SELECT count(*) FROM '{sys.argv[2]}'").fetchone()[0])
