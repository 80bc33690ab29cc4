"""Reads a table of the lake as somebody else would and prints its rows as JSON, one a line, sorted.

    read.py (deltalake | duckdb-delta | pyarrow | duckdb) FOLDER

Every value but null is printed as text in the form that Millrace's own query has, so that a type that was
read as another one shows.
"""
import datetime
import decimal
import json
import os
import sys
import uuid


def text(value):
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, decimal.Decimal):
        return "decimal " + format(value, "f").rstrip("0").rstrip(".")
    if isinstance(value, float):
        return "float " + repr(value)
    if isinstance(value, int):
        return "int " + str(value)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            return "local " + value.isoformat(timespec="microseconds")
        return "moment " + value.astimezone(datetime.timezone.utc).isoformat(timespec="microseconds")
    if isinstance(value, datetime.date):
        return "date " + value.isoformat()
    if isinstance(value, uuid.UUID):
        return "text " + str(value)
    return "text " + value


def rows_of(reader, folder):
    if reader == "deltalake":
        from deltalake import DeltaTable

        return DeltaTable(folder).to_pyarrow_table().to_pylist()
    if reader == "duckdb-delta":
        # DuckDB over the files that the Delta log names: its own extension has to be downloaded.
        import duckdb
        from deltalake import DeltaTable

        files = DeltaTable(folder).file_uris()
        return duckdb.sql("SET TimeZone = 'UTC'") or duckdb.read_parquet(
            files, union_by_name=True, hive_partitioning=True
        ).to_arrow_table().to_pylist()
    if reader == "pyarrow":
        import pyarrow as pa
        import pyarrow.dataset as ds

        partitioning = ds.partitioning(pa.schema([("millrace_date", pa.date32())]), flavor="hive")
        dataset = ds.dataset(folder, format="parquet", partitioning=partitioning)
        schema = pa.unify_schemas([fragment.physical_schema for fragment in dataset.get_fragments()])
        if any("millrace_date=" in path for path in dataset.files):
            schema = schema.append(pa.field("millrace_date", pa.date32()))
        return ds.dataset(folder, schema=schema, format="parquet", partitioning=partitioning).to_table().to_pylist()
    if reader == "duckdb":
        import duckdb

        duckdb.sql("SET TimeZone = 'UTC'")
        return (
            duckdb.read_parquet(folder + "/**/*.parquet", union_by_name=True, hive_partitioning=True)
            .to_arrow_table()
            .to_pylist()
        )
    raise SystemExit(f"unknown reader {reader}")


rows = [
    json.dumps({name: text(value) for name, value in row.items()}, sort_keys=True, ensure_ascii=False)
    for row in rows_of(sys.argv[1], sys.argv[2])
]
print("\n".join(sorted(rows)), flush=True)
# Without the interpreter's end: threads of these libraries may outlive it, and then abort the process.
os._exit(0)
