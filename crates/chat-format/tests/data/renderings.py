"""Golden renderings of real chat templates by Jinja2 itself, set up as Hugging Face's apply_chat_template does.

    pip install jinja2
    python renderings.py FOLDER_OF_TEMPLATES > renderings.jsonl

Each output line: the template's file, whether thinking is on, messages, tools, the prompt and the finished text.
"""

import json
import pathlib
import sys

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "scan",
            "description": "Scan a host for <open> ports.",
            "parameters": {
                "type": "object",
                "properties": {
                    "host": {"type": "string", "description": "Name or address"},
                    "ports": {"type": "array", "items": {"type": "integer"}},
                    "mode": {"type": "string", "enum": ["fast", "full"]},
                },
                "required": ["host"],
            },
        },
    }
]


def call(arguments):
    return [{"id": "c1", "type": "function", "function": {"name": "scan", "arguments": arguments}}]


CHATS = [
    [("system", "You are windu."), ("user", "Scan the network"), ("assistant", "Running scan...")],
    [("user", "  Hi  "), ("assistant", " Hello. \n")],
    [("system", "S"), ("user", "a < b?"), ("assistant", "Yes."), ("user", "And <thinking aloud>?"), ("assistant", "No & no.")],
]


def chats():
    for turns in CHATS:
        yield [{"role": role, "content": content} for role, content in turns], None
    yield [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "hm"}], None
    yield [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Scan nas"},
        {"role": "assistant", "content": "", "tool_calls": call({"host": "nas", "ports": [22, 443], "mode": "fast"})},
        {"role": "tool", "name": "scan", "tool_call_id": "c1", "content": "22 open"},
        {"role": "assistant", "content": "Port 22 is open."},
    ], TOOLS


def main(folder):
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)

    def refuse(message):
        raise ValueError(message)

    env.globals["raise_exception"] = refuse
    names = ["google-gemma-4-31B-it", "Qwen3.5-4B", "Qwen-Qwen2.5-7B-Instruct", "Qwen-Qwen3-0.6B"]
    for name in names:
        template = env.from_string((pathlib.Path(folder) / f"{name}.jinja").read_text())
        for thinking in [False, True]:
            for messages, tools in chats():
                def render(messages, prompt):
                    # What our options stand for: reasoning is shown to the template only when thinking is on.
                    hidden = () if thinking else ("reasoning_content",)
                    shown = [{k: v for k, v in m.items() if k not in hidden} for m in messages]
                    return template.render(messages=shown, tools=tools, bos_token="<bos>", eos_token="<eos>",
                                           add_generation_prompt=prompt, enable_thinking=thinking)
                print(json.dumps({"template": f"{name}.jinja", "thinking": thinking, "messages": messages, "tools": tools,
                                  "prompt": render(messages[:-1], True), "full": render(messages, False)}))


main(sys.argv[1])
