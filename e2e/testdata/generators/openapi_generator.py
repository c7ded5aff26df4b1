"""The life of a function by the client that openapi-generator makes."""

import importlib
import pkgutil
import sys

import warpket_generated
from warpket_generated import (
    ApiClient,
    Configuration,
    CreateDeploymentRequest,
    CreateExecutionRequest,
    CreateFunctionRequest,
    CreateVersionRequest,
    DeploymentsApi,
    ExecutionsApi,
    FunctionsApi,
    SourceFile,
)
from warpket_generated.exceptions import NotFoundException

for module in pkgutil.walk_packages(warpket_generated.__path__, "warpket_generated."):
    importlib.import_module(module.name)

url, token, sdk_version = sys.argv[1:]
client = ApiClient(Configuration(host=url, access_token=token))
functions, deployments, executions = (
    FunctionsApi(client),
    DeploymentsApi(client),
    ExecutionsApi(client),
)
made = functions.create_function(
    CreateFunctionRequest(
        function_name="by-openapi-generator",
        template_language_tag="Python",
        sdk_version=sdk_version,
    ),
    _content_type="application/json",
)
code = """
def handler(event, context):
    print('hello', event['name'])
    return {'sum': sum(event['numbers'])}
"""
version = functions.create_version(
    made.function_id,
    CreateVersionRequest(template_files=[SourceFile(filename="handler.py", content=code)]),
    _content_type="application/json",
)
deployment = deployments.create_deployment(
    made.function_id,
    version.data.version,
    create_deployment_request=CreateDeploymentRequest(slots=1),
    prefer="wait=60",
)
assert deployment.status == "ready", deployment
execution = executions.create_execution(
    CreateExecutionRequest(
        function_id=made.function_id,
        version=version.data.version,
        input={"name": "ada", "numbers": [40, 2]},
    )
)
assert execution.status == "succeeded", execution
assert execution.result == {"sum": 42}, execution
log = executions.get_execution_log(execution.id)
assert log == "hello ada\n", log
try:
    functions.get_function("nothing")
    raise AssertionError("a function that does not exist was found")
except NotFoundException as e:
    assert "not_found" in e.body, e
