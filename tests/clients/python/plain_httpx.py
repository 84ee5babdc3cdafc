"""httpx, with dummies in the headers: Slack by form, and Qase."""

import json
import os

import httpx

with httpx.Client(timeout=30) as client:
    posted = client.post(
        "https://slack.com/api/chat.postMessage",
        headers={"Authorization": f"Bearer {os.environ['SLACK_BOT_TOKEN']}"},
        data={
            "token": os.environ["SLACK_BOT_TOKEN"],
            "channel": "C0HTTPX",
            "text": "2 of 14 failed & more",
        },
    )
    defects = client.get(
        "https://api.qase.io/v1/defect/DEMO",
        params={"status": "open"},
        headers={"Token": os.environ["QASE_TOKEN"]},
    )

print(json.dumps({"posted": posted.json(), "defects": defects.json()}))
