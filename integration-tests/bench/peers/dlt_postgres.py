"""Loads events into PostgreSQL with dlt: FILE ROWS URL HOW, where HOW is json, arrow or merge."""

import itertools
import json
import os
import sys
import tempfile

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"

import dlt  # noqa: E402

file, rows, url, how = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
# The server asks for no password; dlt insists on one.
url = url.replace("@", ":none@", 1)


def as_objects():
    with open(file, encoding="utf-8") as lines:
        for line in itertools.islice(lines, rows):
            yield json.loads(line)


def as_tables():
    """Typed by pyarrow, which dlt then need not do; loaded as CSV, which is COPY."""
    import io

    import pyarrow.json

    with open(file, "rb") as lines:
        wanted = itertools.islice(lines, rows)
        while block := list(itertools.islice(wanted, 50_000)):
            table = pyarrow.json.read_json(io.BytesIO(b"".join(block)))
            yield table.flatten()


events = as_tables if how == "arrow" else as_objects
resource = dlt.resource(
    events(),
    name="events",
    write_disposition="merge" if how == "merge" else "append",
    primary_key="messageId" if how == "merge" else None,
)
with tempfile.TemporaryDirectory() as folder:
    pipeline = dlt.pipeline(
        "bench", destination=dlt.destinations.postgres(url), dataset_name="peer", pipelines_dir=folder
    )
    pipeline.run(resource, loader_file_format="csv" if how == "arrow" else None)
