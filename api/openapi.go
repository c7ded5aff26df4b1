package api

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Document is the API's description as OpenAPI 3.1, in YAML.
func Document(s *Server) ([]byte, error) {
	b, err := s.api.OpenAPI().YAML()
	if err != nil {
		return nil, fmt.Errorf("writing the OpenAPI document: %w", err)
	}
	return tidy(b)
}

// Document30 is the same as OpenAPI 3.0.3, for generators that need it.
func Document30(s *Server) ([]byte, error) {
	b, err := s.api.OpenAPI().DowngradeYAML()
	if err != nil {
		return nil, fmt.Errorf("writing the OpenAPI 3.0 document: %w", err)
	}
	return tidy(b)
}

// tidy writes YAML in one form, so that a change of the document is a change
// of the API.
func tidy(b []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("reading the OpenAPI document: %w", err)
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&doc); err != nil {
		return nil, fmt.Errorf("writing the OpenAPI document: %w", err)
	}
	return out.Bytes(), nil
}

// Scope gives the scope of an operation.
func (s *Server) Scope(operationID string) (Scope, bool) {
	scope, ok := s.scopes[operationID]
	return scope, ok
}
