"""The life of a function by the client that openapi-python-client makes."""

import importlib
import pathlib
import pkgutil
import sys

import warpket_client
from warpket_client import AuthenticatedClient
from warpket_client.api.deployments import create_deployment
from warpket_client.api.executions import create_execution, get_execution_log
from warpket_client.api.functions import create_function, create_version, get_function
from warpket_client.models import (
    CreateDeploymentRequest,
    CreatedFunction,
    CreatedVersion,
    CreateExecutionRequest,
    CreateFunctionRequest,
    CreateVersionRequest,
    Deployment,
    Execution,
    Problem,
    SourceFile,
)

for module in pkgutil.walk_packages(warpket_client.__path__, "warpket_client."):
    importlib.import_module(module.name)
assert pathlib.Path(warpket_client.__file__).is_file()

url, token, sdk_version = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token, timeout=90)
made = create_function.sync(
    client=client,
    body=CreateFunctionRequest(
        function_name="by-python-client", template_language_tag="Python", sdk_version=sdk_version
    ),
)
assert isinstance(made, CreatedFunction), made
code = """
def handler(event, context):
    print('hello', event['name'])
    return {'sum': sum(event['numbers'])}
"""
version = create_version.sync(
    made.function_id,
    client=client,
    body=CreateVersionRequest(template_files=[SourceFile(filename="handler.py", content=code)]),
)
assert isinstance(version, CreatedVersion), version
deployment = create_deployment.sync(
    made.function_id,
    version.data.version,
    client=client,
    body=CreateDeploymentRequest(slots=1),
    prefer="wait=60",
)
assert isinstance(deployment, Deployment), deployment
assert deployment.status == "ready", deployment
execution = create_execution.sync(
    client=client,
    body=CreateExecutionRequest(
        function_id=made.function_id,
        version=version.data.version,
        input_={"name": "ada", "numbers": [40, 2]},
    ),
)
assert isinstance(execution, Execution), execution
assert execution.status == "succeeded", execution
assert execution.result == {"sum": 42}, execution
assert get_execution_log.sync(execution.id, client=client) == "hello ada\n"
missing = get_function.sync("nothing", client=client)
assert isinstance(missing, Problem), missing
assert missing.code == "not_found", missing
