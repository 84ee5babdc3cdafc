"""qase-api-client meets refusals: what its user sees of each, and after how many seconds."""

import json
import os
import time
from urllib.parse import urlsplit

from qase.api_client_v1 import ApiClient, Configuration
from qase.api_client_v1.api.runs_api import RunsApi
from urllib3.util import make_headers

proxy = urlsplit(os.environ["HTTPS_PROXY"])
configuration = Configuration(api_key={"TokenAuth": os.environ["QASE_TOKEN"]})
configuration.proxy = f"http://{proxy.hostname}:{proxy.port}"
configuration.proxy_headers = make_headers(proxy_basic_auth=f"{proxy.username}:{proxy.password}")


def overridden(client):
    client.set_default_header("X-HTTP-Method-Override", "DELETE")
    return RunsApi(client).get_runs("DEMO")


calls = {
    "qase-api-client request_not_allowed": lambda client: RunsApi(client).delete_run("DEMO", 1),
    "qase-api-client path_not_canonical": lambda client: RunsApi(client).get_run("DEMO/x", 1),
    "qase-api-client method_override": overridden,
}

seen = []
for name, call in calls.items():
    begin = time.monotonic()
    with ApiClient(configuration) as client:
        try:
            told = f"succeeded: {call(client)}"
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
    seen.append({"call": name, "told": told, "seconds": time.monotonic() - begin})
print(json.dumps(seen))
