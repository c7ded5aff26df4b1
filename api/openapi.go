package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"go.yaml.in/yaml/v3"
)

// Document is the API's description as OpenAPI 3.1, in YAML.
func Document(s *Server) ([]byte, error) {
	b, err := s.api.OpenAPI().YAML()
	if err != nil {
		return nil, fmt.Errorf("writing the OpenAPI document: %w", err)
	}
	return tidy(b, "patternDescription") // of huma, and strict tools refuse it
}

// Document30 is the same as OpenAPI 3.0.3, for generators that need it.
func Document30(s *Server) ([]byte, error) {
	b, err := s.api.OpenAPI().DowngradeYAML()
	if err != nil {
		return nil, fmt.Errorf("writing the OpenAPI 3.0 document: %w", err)
	}
	return tidy(b, "patternDescription", "contentMediaType", "contentEncoding") // not of 3.0, and strict tools refuse them
}

// Scope gives the scope of an operation.
func (s *Server) Scope(operationID string) (Scope, bool) {
	scope, ok := s.scopes[operationID]
	return scope, ok
}

// tidy writes YAML in one form, so that a change of the document is a change
// of the API, and leaves out the keys that it is told to.
func tidy(b []byte, without ...string) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("reading the OpenAPI document: %w", err)
	}
	prune(&doc, without)
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&doc); err != nil {
		return nil, fmt.Errorf("writing the OpenAPI document: %w", err)
	}
	return out.Bytes(), nil
}

func prune(n *yaml.Node, without []string) {
	if n.Kind == yaml.MappingNode {
		kept := n.Content[:0]
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !slices.Contains(without, n.Content[i].Value) {
				kept = append(kept, n.Content[i], n.Content[i+1])
			}
		}
		n.Content = kept
	}
	for _, child := range n.Content {
		prune(child, without)
	}
}

// addDocuments serves the description, in both versions and forms.
func (s *Server) addDocuments() {
	for name, write := range map[string]func(*Server) ([]byte, error){"openapi": Document, "openapi-3.0": Document30} {
		document := sync.OnceValues(func() ([]byte, error) { return write(s) })
		serve := func(contentType string, form func([]byte) ([]byte, error)) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				b, err := document()
				if err == nil {
					b, err = form(b)
				}
				if err != nil {
					s.Log.ErrorContext(r.Context(), "no OpenAPI document", "error", err)
					problemOf(err).write(w)
					return
				}
				w.Header().Set("Content-Type", contentType)
				_, _ = w.Write(b) // the client may have gone
			}
		}
		s.mux.HandleFunc("GET /"+name+".yaml", serve("application/yaml", func(b []byte) ([]byte, error) { return b, nil }))
		s.mux.HandleFunc("GET /"+name+".json", serve("application/json", toJSON))
	}
}

func toJSON(document []byte) ([]byte, error) {
	var v map[string]any
	if err := yaml.Unmarshal(document, &v); err != nil {
		return nil, fmt.Errorf("reading the OpenAPI document: %w", err)
	}
	return json.Marshal(v)
}
