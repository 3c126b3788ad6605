"""What LangChain and Instructor, with what they send by default, get from the server at the URL of the only argument.

Its model has random weights, so that nothing but the server's grammars makes the answers right.
"""

import sys
from typing import Literal, Optional

import instructor
import openai
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

url = f"{sys.argv[1]}/v1"


class Order(BaseModel):
    old: bool


class Knight(BaseModel):
    rank: Literal["knight", "master"]
    level: int
    order: Optional[Order] = None


def langchain():
    model = ChatOpenAI(base_url=url, api_key="none", model="champion", temperature=1, seed=3, max_tokens=300, max_retries=0)
    chunks = list(model.bind(max_tokens=8).stream("Are you there?", stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == model.bind(max_tokens=8).invoke("Are you there?").content
    assert [chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata] == [8], chunks
    for method in ["json_schema", "function_calling"]:
        found = model.with_structured_output(Knight, method=method).invoke("Who?")
        assert isinstance(found, Knight), found
    for choice in ["any", "Knight"]:
        [call] = model.bind_tools([Knight], tool_choice=choice).invoke("Who?").tool_calls
        assert call["name"] == "Knight" and Knight(**call["args"]), call


def by_instructor():
    for mode in [instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA]:
        client = instructor.from_openai(openai.OpenAI(base_url=url, api_key="none", max_retries=0), mode=mode)
        found = client.chat.completions.create(
            model="champion", response_model=Knight, max_retries=0, temperature=1, seed=3, max_tokens=300,
            messages=[{"role": "user", "content": "Who?"}],
        )
        assert isinstance(found, Knight), found


langchain()
by_instructor()
