"""urllib3 with a client certificate for the proxy, and no token and no credential.

The certificate is renewed on disk between requests; what reads it anew needs nothing else.
"""

import json
import os
import ssl
import sys

import urllib3


def answer():
    """One request, with the certificate that is on disk at this moment."""
    proxy_context = ssl.create_default_context(cafile=os.environ["PROXY_CA"])
    proxy_context.load_cert_chain(os.environ["PROXY_CERT"], os.environ["PROXY_KEY"])
    with urllib3.ProxyManager(
        os.environ["PROXY"],
        proxy_ssl_context=proxy_context,
        ca_certs=os.environ["GATEWAY_ROOT"],
        retries=False,
        timeout=30,
    ) as pool:
        return pool.request("POST", "https://slack.com/api/auth.test").json()


for line in sys.stdin:
    print(json.dumps({"asked": line.strip(), "answer": answer()}), flush=True)
