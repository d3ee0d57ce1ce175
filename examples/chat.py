"""A chat with a running mach-serve: python examples/chat.py [BASE_URL] (pip install openai)."""
import os
import sys

from openai import OpenAI

default_url = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
client = OpenAI(base_url=sys.argv[1] if len(sys.argv) > 1 else default_url, api_key="local")
model = client.models.list().data[0].id
messages = [{"role": "user", "content": "Write one sentence about the sea."}]
for chunk in client.chat.completions.create(model=model, messages=messages, stream=True,
                                            max_tokens=100):
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
