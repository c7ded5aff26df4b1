// The life of a function by the client that openapi-typescript makes.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const [baseUrl, token, sdkVersion] = process.argv.slice(2);
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

function must<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.error !== undefined || answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

const made = must(await api.POST("/v1/functions", {
  body: { functionName: "by-typescript", templateLanguageTag: "Python", sdkVersion },
}));
const functionId = made.functionId;
const code = "def handler(event, context):\n    print('hello', event['name'])\n    return {'sum': sum(event['numbers'])}\n";
const version = must(await api.POST("/v1/functions/{functionId}/versions", {
  params: { path: { functionId } },
  body: { templateFiles: [{ filename: "handler.py", content: code }] },
}));
const deployment = must(await api.POST("/v1/functions/{functionId}/versions/{version}/deployments", {
  params: { path: { functionId, version: version.data.version }, header: { Prefer: "wait=60" } },
  body: { slots: 1 },
}));
if (deployment.status !== "ready") throw new Error(`the deployment is ${deployment.status}`);
const execution = must(await api.POST("/v1/executions", {
  body: { functionId, version: version.data.version, input: { name: "ada", numbers: [40, 2] } },
}));
const log = must(await api.GET("/v1/executions/{id}/log", { params: { path: { id: execution.id } }, parseAs: "text" }));
if (execution.status !== "succeeded" || JSON.stringify(execution.result) !== '{"sum":42}' || log !== "hello ada\n") {
  throw new Error(JSON.stringify({ execution, log }));
}
const missing = await api.GET("/v1/functions/{functionId}", { params: { path: { functionId: "nothing" } } });
if (missing.error?.code !== "not_found") throw new Error(JSON.stringify(missing));
const deleted = await api.DELETE("/v1/deployments/{id}", { params: { path: { id: deployment.id } } });
if (deleted.error !== undefined) throw new Error(JSON.stringify(deleted.error));
