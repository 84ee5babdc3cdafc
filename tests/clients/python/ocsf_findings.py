"""Checks findings of OCSF, a line each, with the models of others."""

import json
import sys

from py_ocsf_models.events.findings.detection_finding import DetectionFinding

with open(sys.argv[1], encoding="utf-8") as lines:
    findings = [DetectionFinding.model_validate(json.loads(line)) for line in lines]
assert all(finding.type_uid == 200401 for finding in findings)
print(json.dumps({"findings": len(findings)}))
