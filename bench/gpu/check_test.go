package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// rights are results as the programs give them on a card.
var rights = map[string]string{
	"CUDA":                `{"n": 1048576, "worstError": 0, "target": "gpu"}`,
	"CUDA sgemm.cu":       `{"n": 1000, "worstError": 0, "milliseconds": 0.2, "teraflops": 20.5, "target": "gpu"}`,
	"CUDA reduction.cu":   `{"n": 16777216, "sum": -6, "error": 0, "target": "gpu"}`,
	"CUDA histogram.cu":   `{"n": 512, "bins": [` + strings.Repeat("2,", 255) + `2], "right": true, "target": "gpu"}`,
	"CUDA pi.cu":          `{"points": 100000000, "pi": 3.14151, "standardError": 0.000164, "target": "gpu"}`,
	"CUDA statevector.cu": `{"qubits": 2, "probabilities": {"00": 0.5000000000000001, "11": 0.5}, "gatesPerSecond": 1e4, "target": "gpu"}`,
	"CuPy":                `{"n": 1000000, "worst_error": 1.1920929e-07, "target": "gpu", "device": "NVIDIA H100 80GB HBM3"}`,
	"Numba-CUDA":          `{"n": 1000000, "worst_error": 0.0, "target": "gpu", "device": "NVIDIA H100 80GB HBM3"}`,
	"CUDA-Q":              `{"counts": {"000": 530, "111": 494}, "target": "gpu", "simulator": "nvidia"}`,
	"Qiskit-GPU":          `{"counts": {"000": 500, "111": 524}, "target": "gpu", "device": "GPU"}`,
}

func (p program) name() string { return strings.TrimSpace(p.tag + " " + p.example) }

func TestRightResultsAreTakenForRight(t *testing.T) {
	t.Parallel()
	for _, p := range programs {
		if err := p.verdict([]byte(rights[p.name()])); err != nil {
			t.Errorf("%s: %v", p.name(), err)
		}
	}
}

func TestWrongResultsAreTakenForWrong(t *testing.T) {
	t.Parallel()
	for _, p := range programs {
		elsewhere := strings.Replace(rights[p.name()], `"target": "gpu"`, `"target": "sim"`, 1)
		for _, b := range []string{"", "{}", `{"target": "gpu"}`, elsewhere} {
			if err := p.verdict([]byte(b)); err == nil {
				t.Errorf("%s: %q is right", p.name(), b)
			}
		}
	}
	tests := map[string]struct{ of, right, wrong, says string }{
		"a sum":                       {"CUDA", `"worstError": 0`, `"worstError": 0.5`, "wrong by 0.5"},
		"an error that is no number":  {"CUDA reduction.cu", `"error": 0`, `"error": null`, "does not say"},
		"a product":                   {"CUDA sgemm.cu", `"worstError": 0`, `"worstError": 1`, "wrong by 1"},
		"a histogram":                 {"CUDA histogram.cu", "true", "false", "256 bins"},
		"one that has lost a byte":    {"CUDA histogram.cu", `"n": 512`, `"n": 513`, "of 513 bytes it has counted 512"},
		"pi":                          {"CUDA pi.cu", "3.14151", "3.1", "pi is 3.1"},
		"pi that may be anything":     {"CUDA pi.cu", "0.000164", "1", "± 1"},
		"a state with more outcomes":  {"CUDA statevector.cu", `"00": 0.5`, `"01": 0, "00": 0.5`, "probabilities"},
		"a state that is another":     {"CUDA statevector.cu", `"11"`, `"10"`, "the probability of 10"},
		"a state that is not even":    {"CUDA statevector.cu", `"11": 0.5`, `"11": 0.4`, "0.4"},
		"a CuPy that is not close":    {"CuPy", "1.1920929e-07", "0.001", "wrong by 0.001"},
		"a CuPy that names no card":   {"CuPy", "NVIDIA H100 80GB HBM3", "", "names the device"},
		"a simulated Numba":           {"Numba-CUDA", "NVIDIA H100 80GB HBM3", "cuda-sim", `"cuda-sim"`},
		"a CUDA-Q on the processor":   {"CUDA-Q", "nvidia", "qpp-cpu", `"qpp-cpu", not nvidia`},
		"counts of another state":     {"CUDA-Q", `"000"`, `"001"`, "has measured"},
		"counts that are too uneven":  {"Qiskit-GPU", `"000": 500`, `"000": 800`, "has measured"},
		"counts of one outcome alone": {"Qiskit-GPU", `"000": 500, `, ``, "has measured"},
		"a Qiskit on the processor":   {"Qiskit-GPU", "GPU", "CPU", `"CPU", not GPU`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := strings.Replace(rights[tt.of], tt.right, tt.wrong, 1)
			for _, p := range programs {
				if p.name() != tt.of {
					continue
				}
				if err := p.verdict([]byte(b)); err == nil || !strings.Contains(err.Error(), tt.says) || b == rights[tt.of] {
					t.Errorf("of %s it says %v", b, err)
				}
			}
		})
	}
}

// product answers what a product would whose card computes as these results say.
func product(t *testing.T, results map[string]string, device string) client {
	t.Helper()
	of := map[string]string{} // names of programs, by the function's ID
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
	mux.HandleFunc("GET /v1/devices", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"items": [` + device + `]}`))
	})
	mux.HandleFunc("GET /v1/templates/{tag}", func(w http.ResponseWriter, r *http.Request) {
		from := template{Files: []file{{"main.cu", "cpp", ""}, {"warpket.h", "cpp", ""}}}
		for _, p := range programs {
			if p.tag == r.PathValue("tag") && p.example != "" {
				from.Examples = append(from.Examples, file{p.example, "cpp", p.example})
			}
		}
		answer(w, from)
	})
	mux.HandleFunc("POST /v1/functions", func(w http.ResponseWriter, r *http.Request) {
		var f struct {
			TemplateLanguageTag string
			TemplateFiles       []file
		}
		_ = json.NewDecoder(r.Body).Decode(&f)
		name := f.TemplateLanguageTag
		for _, file := range f.TemplateFiles {
			if file.Content != "" {
				name += " " + file.Content
			}
		}
		id := strings.ReplaceAll(name, " ", "-")
		of[id] = name
		answer(w, map[string]any{"functionId": id})
	})
	mux.HandleFunc("POST /v1/executions", func(w http.ResponseWriter, r *http.Request) {
		var order map[string]any
		_ = json.NewDecoder(r.Body).Decode(&order)
		if queue, said := order["queue"]; said || order["target"] != "gpu" {
			t.Errorf("queue is %v, the target %v", queue, order["target"])
		}
		id, _ := order["functionId"].(string)
		answer(w, map[string]any{"id": id, "status": "queued"})
	})
	mux.HandleFunc("GET /v1/executions/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{"status": "succeeded", "result": json.RawMessage(results[of[r.PathValue("id")]])})
	})
	mux.HandleFunc("DELETE /v1/functions/{id}", func(_ http.ResponseWriter, r *http.Request) { delete(of, r.PathValue("id")) })
	s := httptest.NewServer(mux)
	t.Cleanup(func() {
		s.Close()
		if len(of) > 0 {
			t.Errorf("functions are left: %v", of)
		}
	})
	return client{API: s.URL}
}

const card = `{"simulated": false}`

func TestEachProgramIsCheckedWhateverTheOthersDo(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]string{"none": "", "one": "CUDA histogram.cu"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			results := maps.Clone(rights)
			results["CUDA histogram.cu"] = strings.Replace(results["CUDA histogram.cu"], "true", map[bool]string{true: "true", false: "false"}[broken == ""], 1)
			c := product(t, results, card)
			var cuda template
			if err := c.ask(t.Context(), http.MethodGet, "/v1/templates/CUDA", nil, &cuda); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err := c.check(t.Context(), cuda, &out)
			if wrong := strings.Count(out.String(), "counted 512"); (err != nil) != (broken != "") || wrong != len(strings.Fields(broken))/2 || strings.Count(out.String(), "right\n") != len(programs)-wrong {
				t.Errorf("%v:\n%s", err, out.String())
			}
		})
	}
}

func TestWithoutARealGPUNothingIsQueued(t *testing.T) {
	t.Parallel()
	for device, has := range map[string]bool{"": false, `{"simulated": true}`: false, `{"migProfile": "1g.10gb"}`: false, card: true} {
		if err := product(t, nil, device).hasGPU(t.Context()); (err == nil) != has {
			t.Errorf("with %q: %v", device, err)
		}
	}
}
