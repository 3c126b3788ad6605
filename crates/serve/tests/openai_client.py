"""What OpenAI's own client gets from the server at the URL of the first argument.

python openai_client.py URL MODE

MODE is `tiny` (a model that says "on duty."), `tools` (one that calls `scan`), `family` (random weights) or `real`
"""

import asyncio
import json
import sys

import openai

url, mode = sys.argv[1:]
# A real model may run on a busy machine.
size, count = (8, 4) if mode == "real" else (32, 16)
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300)
ask = [{"role": "user", "content": "Are you there?"}]


def refused(kind, status, word, **more):
    try:
        client.chat.completions.create(**{"model": "champion", "messages": ask, **more})
    except kind as error:
        assert error.status_code == status, error
        assert word in str(error), error
        return
    raise AssertionError(f"expected {kind.__name__} for {more}")


def models():
    ids = [model.id for model in client.models.list()]
    assert ids[:2] == ["champion", "base"], ids
    assert client.models.retrieve("champion").id == "champion"


def whole(expected):
    answer = client.chat.completions.create(model="champion", messages=ask, seed=1, max_tokens=size)
    text = answer.choices[0].message.content
    assert expected(text), text
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.system_fingerprint.startswith("fp_")
    return text


def streamed(text):
    stream = client.chat.completions.create(
        model="champion", messages=ask, max_tokens=size, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == text, (said, text)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] in ("stop", "length") and not any(reasons[:-1]), reasons
    assert chunks[-1].usage.completion_tokens > 0


def several():
    answer = client.chat.completions.create(
        model="champion", messages=ask, n=3, temperature=1, top_p=0.9, seed=5, max_tokens=8
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def parts_and_roles():
    messages = [
        {"role": "developer", "content": "You are windu."},
        {"role": "user", "content": [{"type": "text", "text": "Are you"}, {"type": "text", "text": " there?"}]},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Still?", "name": "ada"},
    ]
    client.chat.completions.create(model="base", messages=messages, max_tokens=4, user="ada")


def errors():
    refused(openai.NotFoundError, 404, "expected one of champion", model="gpt-4o")
    refused(openai.BadRequestError, 400, "temperature", temperature=2.5)
    refused(openai.BadRequestError, 400, "logit_bias", logit_bias={"5": 10})
    refused(openai.BadRequestError, 400, "response_format.type", response_format={"type": "regex"})
    refused(openai.BadRequestError, 400, "messages", messages=[])
    refused(openai.BadRequestError, 400, "context", messages=[{"role": "user", "content": "word " * 20_000}])


def schemas():
    rank = {"type": "object", "properties": {"rank": {"enum": ["knight", "master"]}}, "required": ["rank"],
            "additionalProperties": False}
    named = {"type": "json_schema", "json_schema": {"name": "rank", "strict": True, "schema": rank}}
    for form in [{"type": "json_object"}, named]:
        answer = client.chat.completions.create(
            model="champion", messages=ask, response_format=form, max_tokens=400, temperature=1, seed=3)
        choice = answer.choices[0]
        if choice.finish_reason == "stop":
            value = json.loads(choice.message.content)
            assert isinstance(value, dict), value
            assert form["type"] == "json_object" or value in ({"rank": "knight"}, {"rank": "master"}), value


def completion():
    answer = client.completions.create(model="base", prompt="One, two, three,", max_tokens=8)
    assert answer.object == "text_completion" and answer.usage.completion_tokens > 0
    chunks = list(client.completions.create(model="base", prompt="One, two, three,", max_tokens=8, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text


async def many(text):
    server = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300)
    one = lambda: server.chat.completions.create(model="champion", messages=ask, max_tokens=size)
    answers = await asyncio.gather(*(one() for _ in range(count)))
    said = {answer.choices[0].message.content for answer in answers}
    assert said == {text}, said
    # A client that reads a little and goes away.
    stream = await server.chat.completions.create(model="champion", messages=ask, stream=True, max_tokens=64)
    async for _ in stream:
        break
    await stream.close()
    assert (await one()).choices[0].message.content == text


def tools():
    scan = {"type": "function", "function": {"name": "scan", "parameters": {
        "type": "object", "properties": {"host": {"type": "string"}}}}}
    first = client.chat.completions.create(model="champion", messages=ask, tools=[scan])
    assert first.choices[0].finish_reason == "tool_calls", first
    [call] = first.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)["host"]) == ("scan", "nas"), call
    result = {"role": "tool", "tool_call_id": call.id, "content": "open: 22"}
    client.chat.completions.create(
        model="champion", messages=[*ask, first.choices[0].message, result], tools=[scan], max_tokens=4
    )
    with client.chat.completions.stream(model="champion", messages=ask, tools=[scan]) as stream:
        final = stream.get_final_completion()
    [again] = final.choices[0].message.tool_calls
    assert again.function.name == "scan" and json.loads(again.function.arguments)["host"] == "nas", again


def forced():
    zone = {"type": "object", "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}, "km": {
        "type": "integer", "minimum": 1, "maximum": 9}}, "required": ["zip", "km"], "additionalProperties": False}
    tools = [{"type": "function", "function": {"name": "find", "parameters": zone}}]
    more = {"model": "champion", "messages": ask, "tools": tools, "temperature": 1, "seed": 7}
    named = {"type": "function", "function": {"name": "find"}}
    for choice in ["required", named]:
        answer = client.chat.completions.create(tool_choice=choice, **more)
        [call] = answer.choices[0].message.tool_calls
        found = json.loads(call.function.arguments)
        assert call.function.name == "find" and sorted(found) == ["km", "zip"], call
        assert isinstance(found["zip"], str) and len(found["zip"]) == 5 and 1 <= found["km"] <= 9, found
        with client.chat.completions.stream(tool_choice=choice, **more) as stream:
            again = stream.get_final_completion().choices[0].message.tool_calls
        assert [call.function.arguments for call in again] == [call.function.arguments], again
    zone["properties"]["zip"]["format"] = "zip"
    refused(openai.BadRequestError, 400, "`format`", tools=tools, tool_choice="required")


models()
if mode == "tools":
    tools()
elif mode == "family":
    streamed(whole(lambda text: True))
    several()
    parts_and_roles()
    errors()
    schemas()
    completion()
    forced()
else:
    text = whole(lambda text: text == "on duty.") if mode == "tiny" else whole(lambda text: len(text.split()) > 2)
    streamed(text)
    several()
    parts_and_roles()
    errors()
    schemas()
    completion()
    asyncio.run(many(text))
    print(f"{mode}: {text!r}")
