// Command gpu runs every template and example for GPUs on a product with one,
// each as a function, and checks what it computes. Then it measures what share of
// the card's own peaks the examples of the template CUDA reach: SGEMM beside
// cuBLAS, and single gates on a statevector beside copies of the card's memory.
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
	only := flag.Bool("check", false, "only check the results, and measure nothing")
	flag.Parse()
	if err := run(context.Background(), *dev, *n, *qubits, *only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dev string, n, qubits int, only bool) error {
	b, err := os.ReadFile(dev)
	if err != nil {
		return fmt.Errorf("%w: start a product with \"make run\", or say where it is with -dev", err)
	}
	var c client
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("reading %s: %w", dev, err)
	}
	if err := c.hasGPU(ctx); err != nil {
		return err
	}
	var cuda template
	if err := c.ask(ctx, http.MethodGet, "/v1/templates/CUDA", nil, &cuda); err != nil {
		return err
	}
	if err := c.check(ctx, cuda, os.Stdout); err != nil || only {
		return err
	}
	var peak, sgemm, state struct {
		Teraflops, GigabytesPerSecond float64
		Device                        string
	}
	if err := c.measure(ctx, "CuPy", []file{{"handler.py", "python", peaks}}, map[string]any{"n": n, "bytes": int64(16) << (qubits - 1)}, nil, &peak); err != nil {
		return err
	}
	if err := c.measure(ctx, "CUDA", cuda.program("sgemm.cu"), map[string]any{"n": n}, exact, &sgemm); err != nil {
		return fmt.Errorf("sgemm.cu: %w", err)
	}
	if err := c.measure(ctx, "CUDA", cuda.program("statevector.cu"), map[string]any{"qubits": qubits}, halves, &state); err != nil {
		return fmt.Errorf("statevector.cu: %w", err)
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

// template is what a function can be begun with.
type template struct{ Examples, Files []file }

// program is an example in the place of the template's own program; that itself
// if the name is empty.
func (t template) program(example string) (files []file) {
	for _, f := range t.Files {
		if example == "" || f.Filename != "main.cu" {
			files = append(files, f)
		}
	}
	for _, f := range t.Examples {
		if f.Filename == example {
			files = append(files, file{"main.cu", f.Language, f.Content})
		}
	}
	return files
}

// hasGPU reports whether a slot may get a GPU: what is queued for one that there
// is not would wait without end.
func (c client) hasGPU(ctx context.Context) error {
	var devices struct {
		Items []struct {
			Simulated  bool
			MIGProfile string
		}
	}
	if err := c.ask(ctx, http.MethodGet, "/v1/devices?kind=gpu&free=true", nil, &devices); err != nil {
		return err
	}
	for _, d := range devices.Items {
		if !d.Simulated && d.MIGProfile == "" {
			return nil
		}
	}
	return errors.New("no node has a whole GPU that is free and sound: see GET /v1/devices, and the notes of GET /v1/nodes")
}

// measure executes a program, checks its result, and reads it.
func (c client) measure(ctx context.Context, tag string, files []file, input map[string]any, right func(result) error, into any) error {
	b, err := c.execute(ctx, tag, files, input)
	if err != nil {
		return err
	}
	if right != nil {
		var r result
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		if err := right(r); err != nil {
			return err
		}
	}
	return json.Unmarshal(b, into)
}

// patience is how long one execution may take, its runtime's installation too.
const patience = 30 * time.Minute

// execute makes a function of files, executes it on a GPU, and deletes it. It
// queues: the one before may not have given its GPU back yet.
func (c client) execute(ctx context.Context, tag string, files []file, input any) (result json.RawMessage, err error) {
	var f struct{ FunctionID string }
	name := fmt.Sprintf("bench-gpu-%d", time.Now().UnixNano())
	if err := c.ask(ctx, http.MethodPost, "/v1/functions", map[string]any{"functionName": name, "templateLanguageTag": tag, "templateFiles": files}, &f); err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, c.ask(context.WithoutCancel(ctx), http.MethodDelete, "/v1/functions/"+f.FunctionID+"?force=true", nil, nil))
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var e struct {
		ID, Status string
		Error      *struct{ Code, Message string }
		Result     json.RawMessage
	}
	order := map[string]any{"functionId": f.FunctionID, "target": "gpu", "input": input, "resources": map[string]any{"memory": int64(8) << 30, "timeout": 600}}
	if err := c.ask(ctx, http.MethodPost, "/v1/executions", order, &e, "Prefer", "wait=600"); err != nil {
		return nil, err
	}
	for e.Status == "queued" || e.Status == "running" { // each answer is held
		if err := c.ask(ctx, http.MethodGet, "/v1/executions/"+e.ID, nil, &e, "Prefer", "wait=60"); err != nil {
			return nil, err
		}
	}
	if e.Status != "succeeded" {
		return nil, fmt.Errorf("%s: %+v", e.Status, e.Error)
	}
	return e.Result, nil
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
