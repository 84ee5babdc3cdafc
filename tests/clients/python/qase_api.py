"""qase-api-client: reads as the nightly dashboard does, and writes a run and a result.

It ignores HTTPS_PROXY: where there is one, `Configuration.proxy` and `proxy_headers` say the same
thing.
"""

import json
import os
from urllib.parse import urlsplit

from qase.api_client_v1 import ApiClient, Configuration
from qase.api_client_v1.api.defects_api import DefectsApi
from qase.api_client_v1.api.results_api import ResultsApi
from qase.api_client_v1.api.runs_api import RunsApi
from qase.api_client_v1.exceptions import ApiException
from qase.api_client_v1.models.result_create import ResultCreate
from qase.api_client_v1.models.run_create import RunCreate
from urllib3.util import make_headers

configuration = Configuration(api_key={"TokenAuth": os.environ["QASE_TOKEN"]})
if "HTTPS_PROXY" in os.environ:
    proxy = urlsplit(os.environ["HTTPS_PROXY"])
    configuration.proxy = f"http://{proxy.hostname}:{proxy.port}"
    configuration.proxy_headers = make_headers(
        proxy_basic_auth=f"{proxy.username}:{proxy.password}"
    )

with ApiClient(configuration) as client:
    runs = RunsApi(client).get_runs("DEMO", limit=100, offset=0, include="cases")
    results = ResultsApi(client).get_results("DEMO", run="1,2", limit=100)
    defects = DefectsApi(client).get_defects("DEMO", status="open")
    created = RunsApi(client).create_run("DEMO", RunCreate(title="From qase-api-client"))
    result = ResultsApi(client).create_result(
        "DEMO", created.result.id, ResultCreate(case_id=1, status="passed")
    )
    try:
        RunsApi(client).delete_run("DEMO", 1)
        deleted = "done"
    except ApiException as error:
        deleted = {"exception": type(error).__name__, "status": error.status}

print(
    json.dumps(
        {
            "runs": [run.title for run in runs.result.entities],
            "results": results.result.filtered,
            "defects": [defect.title for defect in defects.result.entities],
            "created": created.status,
            "result": result.status,
            "deleted": deleted,
        }
    )
)
