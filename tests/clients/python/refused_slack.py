"""slack_sdk, requests and urllib meet refusals: what their user sees of each, and after how many seconds."""

import json
import os
import time
import urllib.request
from urllib.error import HTTPError

import requests
from slack_sdk import WebClient
from slack_sdk.webhook import WebhookClient

API = "https://slack.com/api/"
OTHER_WEBHOOK = "https://hooks.slack.com/services/T000/B000/other"
OTHER_FILE = "https://files.slack.com/other/report.txt"


def client(**options):
    return WebClient(token=os.environ["SLACK_BOT_TOKEN"], **options)


def post(client):
    return client.chat_postMessage(channel="C1", text="hello")


def webhook():
    answer = WebhookClient(OTHER_WEBHOOK).send(text="hello")
    return f"{answer.status_code} {answer.body}"


def by_requests(method, url):
    answer = requests.request(method, url, data=b"hello", timeout=30)
    return f"{answer.status_code} {answer.text}"


def by_urllib(url):
    try:
        with urllib.request.urlopen(url, data=b"hello", timeout=30) as answer:
            return f"{answer.status} {answer.read().decode()}"
    except HTTPError as error:
        return f"{error.code} {error.read().decode()}"


def upload():
    return client().files_upload_v2(channel="C1", filename="report.txt", content="total is 41")


calls = {
    "slack_sdk path_denied": lambda: client().auth_revoke(),
    "slack_sdk request_not_allowed": lambda: client().chat_delete(channel="C1", ts="1.1"),
    "slack_sdk form_unreadable": lambda: client().api_call(
        "chat.postMessage", data={"channel": "C1", "text": "x" * 2_000_000}
    ),
    "slack_sdk path_not_canonical": lambda: client().api_call("chat.postMessage;x"),
    "slack_sdk method_override": lambda: post(client(headers={"X-HTTP-Method-Override": "GET"})),
    "slack_sdk path_override": lambda: post(client(headers={"X-Original-URL": "/api/auth.revoke"})),
    "slack_sdk header_alias": lambda: post(client(headers={"X_Api_Key": "mine"})),
    "slack_sdk plaintext_refused": lambda: post(client(base_url="http://slack.com/api/")),
    "slack_sdk upload": upload,
    "slack_sdk webhook": webhook,
    "requests request_not_allowed": lambda: by_requests("POST", f"{API}chat.delete"),
    "requests webhook": lambda: by_requests("POST", OTHER_WEBHOOK),
    "requests download": lambda: by_requests("GET", OTHER_FILE),
    "requests head": lambda: str(requests.head(f"{API}chat.delete", timeout=30).status_code),
    "urllib request_not_allowed": lambda: by_urllib(f"{API}chat.delete"),
}

seen = []
for name, call in calls.items():
    begin = time.monotonic()
    try:
        told = f"succeeded: {call()}"
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    seen.append({"call": name, "told": told, "seconds": time.monotonic() - begin})
print(json.dumps(seen))
