"""requests, without any credential: Slack by JSON, Qase, and the webhook."""

import json
import os

import requests

with requests.Session() as session:
    posted = session.post(
        "https://slack.com/api/chat.postMessage",
        json={"channel": "C0REQUESTS", "text": "2 of 14 failed"},
        timeout=30,
    )
    runs = session.get(
        "https://api.qase.io/v1/run/DEMO",
        params={"limit": 100, "include": "cases"},
        timeout=30,
    )
    webhook = session.post(
        os.environ["SLACK_WEBHOOK_URL"], json={"text": "from requests"}, timeout=30
    )

print(
    json.dumps(
        {
            "posted": posted.json(),
            "runs": runs.json(),
            "webhook": {"status": webhook.status_code, "body": webhook.text},
        }
    )
)
