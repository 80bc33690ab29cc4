"""Writes events as a Singer tap does: FILE ROWS, to standard output."""

import itertools
import json
import sys

file, rows = sys.argv[1], int(sys.argv[2])
text = {"type": ["null", "string"]}
time = {"type": ["null", "string"], "format": "date-time"}
properties = {
    "type": text,
    "messageId": {"type": "string"},
    "anonymousId": text,
    "originalTimestamp": time,
    "sentAt": time,
    "event": text,
    "price": {"type": ["null", "number"]},
    "quantity": {"type": ["null", "integer"]},
    "name": text,
}
schema = {"type": "object", "properties": properties}
print(json.dumps({"type": "SCHEMA", "stream": "events", "schema": schema, "key_properties": ["messageId"]}))
with open(file, encoding="utf-8") as lines:
    for line in itertools.islice(lines, rows):
        record = json.loads(line)
        record.update(record.pop("properties"))
        print(json.dumps({"type": "RECORD", "stream": "events", "record": record}))
