"""slack_sdk on aiohttp: message, history, upload, webhook. It reads HTTPS_PROXY by itself."""

import asyncio
import json
import os

from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient


async def main() -> None:
    client = AsyncWebClient(token=os.environ["SLACK_BOT_TOKEN"])
    posted = await client.chat_postMessage(channel="C0ASYNC", text="2 of 14 failed")
    history = await client.conversations_history(channel="C0ASYNC", limit=2)
    uploaded = await client.files_upload_v2(
        channel="C0ASYNC", filename="report.txt", content="total is 41, not 42"
    )
    hook = AsyncWebhookClient(os.environ["SLACK_WEBHOOK_URL"])
    webhook = await hook.send(text="from slack_sdk on aiohttp")
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


asyncio.run(main())
