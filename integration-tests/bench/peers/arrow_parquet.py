"""Reads JSON lines and writes them as Parquet with pyarrow, on one thread: FILE OUT."""

import sys

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet

pa.set_cpu_count(1)
options = pyarrow.json.ReadOptions(use_threads=False, block_size=4 << 20)
table = pyarrow.json.read_json(sys.argv[1], read_options=options)
pyarrow.parquet.write_table(table, sys.argv[2], compression="zstd", compression_level=1)
print(table.num_rows)
