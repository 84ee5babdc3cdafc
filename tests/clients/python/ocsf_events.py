"""Checks events of OCSF, a line each, with the models of others: the base event that all classes share, and the objects
in it that the models know."""

import hashlib
import json
import sys

from py_ocsf_models.events.base_event import BaseEvent
from py_ocsf_models.objects.metadata import Metadata
from py_ocsf_models.objects.policy import Policy
from py_ocsf_models.objects.product import Product
from py_ocsf_models.objects.url import URL


def fingerprint(event):
    """Of an event whose keys and texts are ASCII, so that sorted keys are canonical."""
    attestation = event["attestation_list"][0]
    written = attestation.pop("fingerprint")
    content = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    attestation["fingerprint"] = written
    assert written["algorithm_id"] == 3 and written["serialization_id"] == 2, written
    return written["value"], hashlib.sha256(content.encode()).hexdigest()


count = 0
last = None
with open(sys.argv[1], encoding="utf-8") as lines:
    for line in lines:
        event = json.loads(line)
        count += 1
        BaseEvent.model_validate(event)
        Metadata.model_validate(event["metadata"])
        Product.model_validate(event["metadata"]["product"])
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"], event
        assert event["category_uid"] == event["class_uid"] // 1000, event
        assert isinstance(event["time"], int) and event["time"] > 1_500_000_000_000, event
        written, computed = fingerprint(event)
        assert written == computed, event
        link = event["attestation_list"][0].get("prev_event")
        assert last is None if link is None else link["fingerprint"]["value"] == last, event
        last = written
        if "http_request" in event:
            URL.model_validate(event["http_request"]["url"])
        if "policy" in event:
            Policy.model_validate(event["policy"])
print(json.dumps({"events": count}))
