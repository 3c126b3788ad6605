"""Renders conversations drawn at random with every chat template of a folder, by transformers and by chat-format's `render` example,
and compares the texts. What both render has to be equal; chat-format may render what transformers refuses (Python does not
iterate over `None`), and says how often.

    cargo build -p nightshift-chat-format --example render
    python benches/peers/templates.py FOLDER_OF_TEMPLATES target/debug/examples/render [CONVERSATIONS] [SEED]
"""

import datetime
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

PIECES = ["", " ", "\n", "é🙂", "<|im_end|>", "</think>", "<think>hm</think>", "[INST]", "```\n<s>\n```", '{"a": 1}', "It is 50.", "a < b & c"]
# Templates that chat-format renders otherwise, with the reason.
ITEMS = "`schema.items` of an array is the dict's method in Jinja2, and the key here"
KNOWN = {
    "meetkai-functionary-medium-v3.1": "`|safe` makes Jinja2 write the declarations with HTML escapes",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": ITEMS,
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": ITEMS,
}
SCAN = {
    "name": "scan",
    "description": "Scans a host for <open> ports.",
    "parameters": {
        "type": "object",
        "properties": {"host": {"type": "string", "description": "Name"}, "ports": {"type": "array", "items": {"type": "integer"}}},
        "required": ["host"],
    },
}


class Draw:
    def __init__(self, seed):
        self.random, self.words = random.Random(seed), 0

    def chance(self, of):
        return self.random.randrange(of) == 0

    def text(self):
        self.words += 1
        return f"{self.random.choice(PIECES)}w{self.words}q{self.random.choice(PIECES)}"

    def call(self, number):
        arguments = self.random.choice([{"host": self.text(), "ports": [22, 443]}, {"on": True, "level": 0.5}, {"text": self.text(), "more": {"deep": None}}])
        return {"id": f"call{number:05}", "type": "function", "function": {"name": "scan", "arguments": arguments}}

    def calls(self, round):
        calls = [self.call(10 * round + n) for n in range(self.random.randrange(1, 3))]
        yield {"role": "assistant", "content": "" if self.chance(2) else self.text(), "tool_calls": calls}
        for call in calls:
            yield {"role": "tool", "content": self.text(), "name": "scan", "tool_call_id": call["id"]}

    def conversation(self):
        messages = []
        if self.chance(2):
            messages.append({"role": "system", "content": self.text()})
        if self.chance(8):
            messages.append({"role": "assistant", "content": self.text()})
        twice, tools, reasons = self.chance(8), self.chance(3), self.chance(3)
        for round in range(self.random.randrange(1, 4)):
            messages.append({"role": "user", "content": self.text()} | ({"name": "jo"} if self.chance(6) else {}))
            if tools and self.chance(2):
                messages += self.calls(round)
            messages.append({"role": "assistant", "content": self.text()} | ({"reasoning_content": self.text()} if reasons else {}))
            if twice and round == 0:
                messages.append({"role": "assistant", "content": self.text()})
        prompt = self.chance(2)
        if prompt:
            messages.pop()
        tools = [{"type": "function", "function": SCAN}] if tools else None
        return {"messages": messages, "tools": tools, "thinking": self.chance(2), "prompt": prompt}


def peer(source, request):
    """The text, or None where the template refuses."""
    try:
        rendered, _ = render_jinja_template(
            [request["messages"]], tools=request["tools"], chat_template=source, add_generation_prompt=request["prompt"],
            bos_token="<bos>", eos_token="<eos>", enable_thinking=request["thinking"],
        )
        return rendered[0]
    except Exception:
        return None


def parted(expected, found, answer):
    """Where the two part."""
    if found is None:
        return f"  transformers {expected!r}\n  chat-format  {answer}"
    at = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
    return f"  transformers {expected[at - 60 : at + 60]!r}\n  chat-format  {found[at - 60 : at + 60]!r}"


def main(folder, program, conversations=100, seed=None):
    seed = random.randrange(1 << 32) if seed is None else int(seed)
    date = datetime.date.today().isoformat()
    templates = sorted(Path(folder).glob("*.jinja"))
    print(f"{len(templates)} templates, {conversations} conversations each, seed {seed}")
    counts, differ = Counter(), Counter()
    for template in templates:
        draw = Draw(seed)
        requests = [draw.conversation() for _ in range(int(conversations))]
        lines = "".join(json.dumps(request | {"template": str(template), "date": date}) + "\n" for request in requests)
        answers = subprocess.run([program], input=lines, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        source = template.read_text()
        for request, answer in zip(requests, map(json.loads, answers), strict=True):
            expected, found = peer(source, request), answer.get("text")
            if expected == found:
                kind = "refused by both" if found is None else "equal"
            elif expected is None:
                kind = "refused by transformers only"
            else:
                kind = "known to differ" if template.stem in KNOWN else "differ"
            counts[kind] += 1
            if kind == "differ":
                differ[template.stem] += 1
                if differ[template.stem] == 1:
                    print(f"{template.stem}: {json.dumps(request)}\n{parted(expected, found, answer)}")
    print(dict(counts), dict(differ))
    sys.exit(bool(differ))


main(*sys.argv[1:5])
