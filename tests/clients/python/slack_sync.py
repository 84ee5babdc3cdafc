"""slack_sdk, synchronous: message, history, upload, webhook. It reads HTTPS_PROXY by itself."""

import json
import os

from slack_sdk import WebClient
from slack_sdk.webhook import WebhookClient

client = WebClient(token=os.environ["SLACK_BOT_TOKEN"])
posted = client.chat_postMessage(channel="C0SYNC", text="2 of 14 failed")
history = client.conversations_history(channel="C0SYNC", limit=2)
uploaded = client.files_upload_v2(
    channel="C0SYNC", filename="report.txt", content="total is 41, not 42"
)
webhook = WebhookClient(os.environ["SLACK_WEBHOOK_URL"]).send(text="from slack_sdk")

print(
    json.dumps(
        {
            "posted": posted.data,
            "history": history.data,
            "uploaded": uploaded.data,
            "webhook": {"status": webhook.status_code, "body": webhook.body},
        }
    )
)
