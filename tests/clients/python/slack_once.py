"""slack_sdk posts one message, with its own retries."""

import json
import os

from slack_sdk import WebClient

posted = WebClient(token=os.environ["SLACK_BOT_TOKEN"]).chat_postMessage(
    channel="C0ONCE", text="hello"
)
print(json.dumps({"posted": posted.data}))
