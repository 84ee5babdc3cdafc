"""slack_sdk sets a photo: a large multipart form, on a route that removes the caller's token from forms."""

import io
import json
import os

from slack_sdk import WebClient

client = WebClient(token=os.environ["SLACK_BOT_TOKEN"])
photo = client.users_setPhoto(image=io.BytesIO(b"\x89PNG" + bytes(2 * 1024 * 1024)))
print(json.dumps({"photos": [photo.data]}))
