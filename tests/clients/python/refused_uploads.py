"""Python's clients send large bodies that are refused: what each reads of the refusal."""

import asyncio
import json
import os
import time
import urllib.request
from urllib.error import HTTPError

import aiohttp
import httpx
import requests
from slack_sdk import WebClient

URL = "https://slack.com/api/chat.delete"
# In clear it goes to the proxy in absolute form.
CLEAR = "http://slack.com/api/chat.delete"
PROXIES = {"http": os.environ["HTTPS_PROXY"]}
SIZES = [300_000, 1 << 20, 32 << 20]


def by_urllib(body):
    with urllib.request.urlopen(URL, data=body, timeout=60) as answer:
        return answer.read().decode()


async def by_aiohttp(body):
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.post(URL, data=body) as answer:
            return await answer.text()


def pieces(body):
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


expecting = {"Expect": "100-continue"}
calls = {
    "requests": lambda body: requests.post(URL, data=body, timeout=60).text,
    "requests, chunked": lambda body: requests.post(URL, data=pieces(body), timeout=60).text,
    "requests, Expect": lambda body: requests.post(
        URL, data=body, headers=expecting, timeout=60
    ).text,
    "requests, absolute form": lambda body: requests.post(
        CLEAR, data=body, proxies=PROXIES, timeout=60
    ).text,
    "urllib": by_urllib,
    "httpx": lambda body: httpx.post(URL, content=body, timeout=60).text,
    "aiohttp": lambda body: asyncio.run(by_aiohttp(body)),
    "slack_sdk": lambda body: WebClient(token=os.environ["SLACK_BOT_TOKEN"]).api_call(
        "chat.delete", data={"text": body.decode()}
    ),
}

seen = []
for name, call in calls.items():
    for size in SIZES:
        begin = time.monotonic()
        try:
            told = str(call(b"x" * size))
        except HTTPError as error:
            told = error.read().decode()
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - begin
        seen.append({"call": name, "size": size, "told": told, "seconds": seconds})
print(json.dumps(seen))
