"""Cleans Qwen ChatML rows the way a short Python script does: the peer of the `convert` example.

    python clean_chatml.py raw.jsonl clean.jsonl
"""

import json
import re
import sys

TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)
THINK = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
STRAY = re.compile(r"<\|im_start\|>|<\|im_end\|>|<\|endoftext\|>|</?think>")


def clean(row):
    messages = []
    for message in row["messages"]:
        content = message["content"]
        turns = TURN.findall(content) if "<|im_start|>" in content else [(message["role"], content)]
        for role, text in turns:
            if role == "assistant":
                text = THINK.sub("", text)
            messages.append({"role": role, "content": STRAY.sub("", text).strip()})
    return {**row, "messages": messages}


with open(sys.argv[1], encoding="utf-8") as raw, open(sys.argv[2], "w", encoding="utf-8") as out:
    for line in raw:
        if line.strip():
            out.write(json.dumps(clean(json.loads(line)), ensure_ascii=False) + "\n")
