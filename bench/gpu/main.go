// Command gpu measures on a product with a GPU what share of the card's own
// peaks the examples of the template CUDA reach: SGEMM beside cuBLAS, and single
// gates on a statevector beside copies of the card's memory. All of it runs as
// functions.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strings"
	"time"
)

//go:embed peaks.py
var peaks string

func main() {
	dev := flag.String("dev", ".warpket/dev.json", "what \"warpket dev\" has written: the address and a token")
	n := flag.Int("n", 4096, "rows of the matrices")
	qubits := flag.Int("qubits", 28, "of the statevector; it takes 16 bytes for each of 2^qubits amplitudes")
	flag.Parse()
	if err := run(context.Background(), *dev, *n, *qubits); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dev string, n, qubits int) error {
	b, err := os.ReadFile(dev)
	if err != nil {
		return fmt.Errorf("%w: start a product with \"make run\", or say where it is with -dev", err)
	}
	var c client
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("reading %s: %w", dev, err)
	}
	var template struct{ Examples, Files []file }
	if err := c.ask(ctx, http.MethodGet, "/v1/templates/CUDA", nil, &template); err != nil {
		return err
	}
	var peak, sgemm, state struct {
		Teraflops, GigabytesPerSecond, WorstError float64
		Device                                    string
		Probabilities                             map[string]float64
	}
	if err := c.execute(ctx, "CuPy", []file{{"handler.py", "python", peaks}}, map[string]any{"n": n, "bytes": int64(16) << (qubits - 1)}, &peak); err != nil {
		return err
	}
	for _, e := range []struct {
		name  string
		input map[string]any
		into  any
	}{{"sgemm.cu", map[string]any{"n": n}, &sgemm}, {"statevector.cu", map[string]any{"qubits": qubits}, &state}} {
		var files []file
		for _, f := range template.Examples {
			if f.Filename == e.name {
				files = append(files, file{"main.cu", f.Language, f.Content})
			}
		}
		for _, f := range template.Files {
			if f.Filename != "main.cu" {
				files = append(files, f)
			}
		}
		if err := c.execute(ctx, "CUDA", files, e.input, e.into); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	if sgemm.WorstError != 0 || len(state.Probabilities) != 2 {
		return fmt.Errorf("the results are wrong: %+v, %+v", sgemm, state)
	}
	for outcome, p := range state.Probabilities {
		if math.Abs(p-0.5) > 1e-9 {
			return fmt.Errorf("the probability of %s is %g, not a half", outcome, p)
		}
	}
	fmt.Printf("%s\n", peak.Device)
	fmt.Printf("SGEMM %d: %.2f TFLOP/s, %.0f %% of cuBLAS (%.2f)\n", n, sgemm.Teraflops, 100*sgemm.Teraflops/peak.Teraflops, peak.Teraflops)
	fmt.Printf("gates on %d qubits: %.0f GB/s, %.0f %% of copying (%.0f)\n", qubits, state.GigabytesPerSecond, 100*state.GigabytesPerSecond/peak.GigabytesPerSecond, peak.GigabytesPerSecond)
	return nil
}

type client struct {
	API   string `json:"api"`
	Token string `json:"token"`
}

type file struct {
	Filename string `json:"filename"`
	Language string `json:"language"`
	Content  string `json:"content"`
}

// execute makes a function of files, executes it on a GPU, and deletes it.
func (c client) execute(ctx context.Context, template string, files []file, input, result any) (err error) {
	var f struct{ FunctionID string }
	name := fmt.Sprintf("bench-gpu-%d", time.Now().UnixNano())
	if err := c.ask(ctx, http.MethodPost, "/v1/functions", map[string]any{"functionName": name, "templateLanguageTag": template, "templateFiles": files}, &f); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, c.ask(context.WithoutCancel(ctx), http.MethodDelete, "/v1/functions/"+f.FunctionID+"?force=true", nil, nil))
	}()
	var e struct {
		ID, Status string
		Error      *struct{ Code, Message string }
		Result     json.RawMessage
	}
	// Not queued: without a GPU it is refused at once, with the reason.
	order := map[string]any{"functionId": f.FunctionID, "target": "gpu", "queue": false, "input": input, "resources": map[string]any{"memory": int64(8) << 30, "timeout": 600}}
	if err := c.ask(ctx, http.MethodPost, "/v1/executions", order, &e, "Prefer", "wait=600"); err != nil {
		return err
	}
	for e.Status == "queued" || e.Status == "running" { // each answer is held
		if err := c.ask(ctx, http.MethodGet, "/v1/executions/"+e.ID, nil, &e, "Prefer", "wait=60"); err != nil {
			return err
		}
	}
	if e.Status != "succeeded" {
		return fmt.Errorf("%s of %s: %+v", e.Status, template, e.Error)
	}
	return json.Unmarshal(e.Result, result)
}

func (c client) ask(ctx context.Context, method, path string, body, into any, header ...string) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.API, "/")+path, content)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}
