"""slack_sdk as its releases from 3.0 to 3.27 are set up: the Web API at www.slack.com."""

import json
import os

from slack_sdk import WebClient

client = WebClient(
    token=os.environ["SLACK_BOT_TOKEN"], base_url="https://www.slack.com/api/"
)
posted = client.chat_postMessage(channel="C0WWW", text="2 of 14 failed")
print(json.dumps({"posted": posted.data}))
