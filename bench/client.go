package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"
)

type object = map[string]any

// httpClient sends JSON over connections that are kept.
type httpClient struct {
	base   string
	header http.Header
	client *http.Client
}

func newClient(base string, header http.Header) httpClient {
	return httpClient{base, header, &http.Client{
		Timeout:   90 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 2 * concurrency},
	}}
}

// without gives a client that leaves a header out.
func (c httpClient) without(header string) httpClient {
	c.header = c.header.Clone()
	c.header.Del(header)
	return c
}

func (c httpClient) get(ctx context.Context, path string, answer any) error {
	return c.send(ctx, http.MethodGet, path, nil, answer)
}

func (c httpClient) post(ctx context.Context, path string, body, answer any) error {
	return c.send(ctx, http.MethodPost, path, body, answer)
}

// send sends a request, which must succeed.
func (c httpClient) send(ctx context.Context, method, path string, body, answer any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	maps.Copy(request.Header, c.header)
	request.Header.Set("Content-Type", "application/json")
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s %s", method, path, response.Status, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s %s answered %q: %w", method, path, text, err)
	}
	return nil
}
