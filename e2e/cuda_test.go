package e2e

import (
	"net/http"
	"strings"
	"testing"
)

type built struct {
	ID, Status, Message, Target string
	Build                       struct {
		Status, Message, Log, SHA256 string
		Architectures                []string
		Size                         int64
	}
}

type compiled struct {
	Target, Toolkit string
	Architectures   []string
	Kernels         []struct {
		Name, Architecture string
		Registers          int
	}
}

// TestACUDAFunctionCompilesWithoutAGPU creates one from the template, deploys it
// for the compiler, and asks for the compiler's words; then for a GPU, which is
// nowhere.
func TestACUDAFunctionCompilesWithoutAGPU(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	f := as[struct {
		FunctionID    string
		SDKVersion    string
		TemplateFiles []struct{ Filename, Content string }
	}](t, c.ok(t, "POST", "/v1/functions", object{"functionName": "vecadd", "templateLanguageTag": "CUDA", "sdkVersion": "13.2"}))
	if f.SDKVersion != "13.2" || len(f.TemplateFiles) != 2 {
		t.Fatalf("created %+v", f)
	}
	refused := c.send(t, "POST", "/v1/functions", object{"functionName": "old", "templateLanguageTag": "CUDA", "sdkVersion": "12.9"})
	if refused.status != http.StatusUnprocessableEntity || !strings.Contains(string(refused.body), "the oldest") {
		t.Errorf("12.9 is answered with %d %s", refused.status, refused.body)
	}

	d := as[built](t, c.deployment(t, "/v1/functions/"+f.FunctionID+"/versions/1", object{"target": "compile"}))
	if d.Status != "ready" || d.Target != "compile" || d.Build.Status != "succeeded" || d.Build.Size == 0 || len(d.Build.Architectures) == 0 || !strings.Contains(d.Build.Log, "ptxas info") {
		t.Fatalf("deployed, it is %+v", d)
	}

	e := as[execution](t, c.ok(t, "POST", "/v1/executions", object{"functionId": f.FunctionID, "target": "compile"}))
	result := as[compiled](t, answer{body: e.Result})
	if e.Status != "succeeded" || e.Target != "compile" || result.Target != "compile" || result.Toolkit != "13.2" || len(result.Kernels) != len(result.Architectures) {
		t.Fatalf("compiled: %+v: %+v", e, result)
	}
	for _, k := range result.Kernels {
		if !strings.Contains(k.Name, "vecadd") || k.Registers == 0 {
			t.Errorf("a kernel is %+v", k)
		}
	}
	if log := string(c.ok(t, "GET", "/v1/executions/"+e.ID+"/log", nil).body); !strings.Contains(log, "Compiling entry function") || !strings.Contains(log, "registers") {
		t.Errorf("its log is %q", log)
	}

	// A GPU is waited for, or refused at once: never is anything run elsewhere.
	now := c.send(t, "POST", "/v1/executions", object{"functionId": f.FunctionID, "target": "gpu", "queue": false})
	if now.status != http.StatusServiceUnavailable || !strings.Contains(string(now.body), "a driver for CUDA 13.2") || !strings.Contains(string(now.body), "has no GPU") {
		t.Errorf("without a GPU it is answered %d %s", now.status, now.body)
	}
	later := as[execution](t, c.send(t, "POST", "/v1/executions", object{"functionId": f.FunctionID, "sync": false}))
	if later.Status != "queued" || later.Target != "gpu" {
		t.Errorf("unless it says else, it is %+v", later)
	}
	c.ok(t, "POST", "/v1/executions/"+later.ID+"/cancel", nil)

	// The examples are whole programs, too.
	examples := as[struct {
		Examples, Files []struct{ Filename, Content string }
	}](t, c.ok(t, "GET", "/v1/templates/CUDA", nil))
	for i, example := range examples.Examples {
		files := []object{{"filename": "main.cu", "content": example.Content}, {"filename": "warpket.h", "content": f.TemplateFiles[1].Content}}
		c.ok(t, "POST", "/v1/functions/"+f.FunctionID+"/versions", object{"functionId": f.FunctionID, "templateFiles": files})
		e := as[execution](t, c.ok(t, "POST", "/v1/executions", object{"functionId": f.FunctionID, "version": i + 2, "target": "compile"}))
		if e.Status != "succeeded" || len(as[compiled](t, answer{body: e.Result}).Kernels) == 0 {
			t.Errorf("%s: %+v: %+v", example.Filename, e, e.Error)
		}
	}
	if len(examples.Examples) != 5 {
		t.Errorf("there are %d examples", len(examples.Examples))
	}

	// What does not compile fails with the compiler's words.
	c.ok(t, "POST", "/v1/functions/"+f.FunctionID+"/versions", object{"functionId": f.FunctionID, "templateFiles": []object{{"filename": "main.cu", "content": "__global__ void k() { undeclared = 1; }\nint main() {}\n"}}})
	d = as[built](t, c.deployment(t, "/v1/functions/"+f.FunctionID+"/versions/7", object{"target": "compile"}))
	const words = `main.cu(1): error: identifier "undeclared" is undefined`
	if d.Status != "failed" || !strings.Contains(d.Message, words) || d.Build.Status != "failed" || !strings.Contains(d.Build.Log, words) {
		t.Errorf("deployed, it is %+v", d)
	}
	e = as[execution](t, c.ok(t, "POST", "/v1/executions", object{"functionId": f.FunctionID, "version": 7, "target": "compile"}))
	if e.Status != "failed" || e.Error == nil || e.Error.Code != "build_failed" || e.Error.Message != words {
		t.Errorf("executed, it is %+v: %+v", e, e.Error)
	}
}

// TestNumbaRunsOnItsSimulatorAndCompiles takes the targets of one function in
// turn: each call runs on its own and says so.
func TestNumbaRunsOnItsSimulatorAndCompiles(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	f := as[function](t, c.ok(t, "POST", "/v1/functions", object{"functionName": "numba", "templateLanguageTag": "Numba-CUDA", "sdkVersion": "0.30.4"}))
	for _, target := range []string{"sim", "compile", "sim"} {
		e := as[execution](t, c.ok(t, "POST", "/v1/executions", object{"functionId": f.FunctionID, "target": target, "input": object{"n": 200}, "resources": object{"memory": 1 << 30}}, "Prefer", "wait=100"))
		if e.Status != "succeeded" {
			t.Fatalf("on %s it is %+v: %+v", target, e, e.Error)
		}
		result := as[struct {
			Target, Device string
			WorstError     float64 `json:"worst_error"`
			Lines          int
		}](t, answer{body: e.Result})
		if e.Target != target || result.Target != target || result.WorstError != 0 || (target == "sim") != (result.Device == "cuda-sim") || (target == "compile") != (result.Lines > 10) {
			t.Errorf("on %s it is %+v, %+v", target, e, result)
		}
	}
	refused := c.send(t, "POST", "/v1/executions", object{"functionId": f.FunctionID, "target": "sim", "resources": object{"gpus": 1}})
	if refused.status != http.StatusUnprocessableEntity || !strings.Contains(string(refused.body), "the target sim has no GPU") {
		t.Errorf("sim with a GPU is answered %d %s", refused.status, refused.body)
	}
}

// TestEveryTemplateForGPUsRunsWithoutOneWhereItCan takes the targets that have no
// GPU, with the resources that a function gets which asks for none.
func TestEveryTemplateForGPUsRunsWithoutOneWhereItCan(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	entangled := func(r ranOn) bool { return r.Counts["00"]+r.Counts["11"] == 1024 && len(r.Counts) == 2 }
	for _, tt := range []struct {
		tag, version, target string
		right                func(ranOn) bool
	}{
		{"CuPy", "14.2.0", "compile", func(r ranOn) bool { return r.Bytes > 1000 }},
		{"Numba-CUDA", "0.30.4", "sim", func(r ranOn) bool { return r.WorstError != nil && *r.WorstError == 0 && r.Device == "cuda-sim" }},
		{"Numba-CUDA", "0.30.4", "compile", func(r ranOn) bool { return r.Lines > 10 }},
		{"CUDA-Q", "0.16.0", "simulator", func(r ranOn) bool { return entangled(r) && r.Simulator == "qpp-cpu" }},
		{"Qiskit-GPU", "0.18.2", "simulator", func(r ranOn) bool { return entangled(r) && r.Device == "CPU" }},
	} {
		// One after the other: each installs up to 3 GB.
		f := as[function](t, c.ok(t, "POST", "/v1/functions", object{"functionName": unique("gpu"), "templateLanguageTag": tt.tag, "sdkVersion": tt.version}))
		e := as[execution](t, c.ok(t, "POST", "/v1/executions", object{"functionId": f.FunctionID, "target": tt.target}, "Prefer", "wait=300"))
		for e.Status == "queued" || e.Status == "running" {
			e = c.final(t, e.ID)
		}
		if e.Status != "succeeded" || e.Target != tt.target {
			t.Errorf("%s on %s is %+v: %+v", tt.tag, tt.target, e, e.Error)
			continue
		}
		if r := as[ranOn](t, answer{body: e.Result}); r.Target != tt.target || !tt.right(r) {
			t.Errorf("the result of %s on %s is %s", tt.tag, tt.target, e.Result)
		}
		t.Logf("%s on %s: %+v", tt.tag, tt.target, e.Timings)
	}
}

// ranOn is what the templates say of where they ran, and of what came of it.
type ranOn struct {
	Target, Device, Simulator string
	Counts                    map[string]int
	WorstError                *float64 `json:"worst_error"`
	Bytes, Lines              int
}
