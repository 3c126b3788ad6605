"""Writes the Parquet files that the tests of tables read: `python tables.py`, with pyarrow 26."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).with_name("tables")
CHAT = [{"role": "user", "content": "Is the NAS up?"}, {"role": "assistant", "content": "Yes, since Monday – 3 days."}]
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "scan", "arguments": "{\"port\": 22}"}}]}


def write(name, rows, compression, schema=None, **more):
    pq.write_table(pa.Table.from_pylist(rows, schema), HERE / name, compression=compression, **more)


write("pairs.parquet", [
    {"prompt": "Is the NAS up?", "completion": "Yes.", "agent": "windu", "score": 0.5, "n": 7, "ok": True, "odd": float("nan")},
    {"prompt": "And the camera?", "completion": "No.", "agent": None, "score": None, "n": None, "ok": None, "odd": None},
    {"prompt": None, "completion": "No.", "agent": "yoda", "score": 1.0, "n": 8, "ok": False, "odd": 1.0},
], "snappy")
write("chats.parquet", [{"messages": CHAT, "tags": ["a", "b"]}, {"messages": [CHAT[0], CALL], "tags": []}], "zstd")
pairs = {"from": pa.list_(pa.string()), "value": pa.list_(pa.string())}
write("lists.parquet", [{"conversations": {"from": ["human", "gpt"], "value": ["q", "a"]}}], "gzip",
      pa.schema({"conversations": pa.struct(pairs)}))
write("groups.parquet", [{"question": f"What is {n}?", "answer": f"{n}."} for n in range(3000)], "lz4", row_group_size=700)
